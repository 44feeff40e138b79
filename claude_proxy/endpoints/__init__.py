"""The endpoints: each reads a request, lets its dialect translate it, and sends the answer."""
