"""The routes of the REST API, all under ``/api/v1``."""

from ashwood.dashboard.routes import experiments, exports, figures, files, notes, previews, steering

ROUTERS = [module.router for module in (experiments, exports, figures, files, notes, steering, previews)]
