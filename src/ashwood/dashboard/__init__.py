"""The dashboard: reads views, posts requests through the inbox, and never touches an engine or a backend."""
