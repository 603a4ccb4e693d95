"""Settings, dialogs, background tasks and layer styles: what belongs to the desktop."""
