"""The web dashboard: it reads views and sends requests to drivers, and uses neither the engine nor a backend."""
