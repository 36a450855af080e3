"""Datasets that need no file. Each module here that registers one (`genzoo.data.dataset`) is found by being here."""
