"""Connections and requests as such, whatever they ask for."""
