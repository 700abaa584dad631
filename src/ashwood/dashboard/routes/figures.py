"""Figures as Plotly's JSON: the same that notebooks and reports have."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
