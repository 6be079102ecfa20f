"""Which system is better, which critic is right, and the pages that say so."""
