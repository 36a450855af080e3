"""Datasets of the Hugging Face hub. The only room that imports `datasets` and `huggingface_hub`, and only when it is used."""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np

from genzoo.data.base import Labels
from genzoo.data.catalog import Entry
from genzoo.data.images import Raw
