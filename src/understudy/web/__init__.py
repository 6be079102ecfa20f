"""Web pages: blind rating and trying a student."""
