"""The routes of the REST API, all under ``/api/v1``."""

from ashwood.dashboard.routes import experiments, exports, figures, files, forks, notes, previews, steering

ROUTERS = [module.router for module in (experiments, exports, figures, files, forks, notes, steering, previews)]
