"""Critics: pairs of texts in, judgments out.

A new kind of critic is one file and one more member of a union. The file has its settings, a subclass of
:class:`~quipwright.critics.base.BaseCriticConfig` whose ``build`` returns the critic and whose ``identity`` says what
its judgments depend on, and the critic itself, which has ``name``, ``positional`` and ``judge``. The union is
``CriticConfig`` in :mod:`quipwright.critics.config`. Recipes, panels, judges of an evaluation, tables of critics and the
command line know the new kind from there.
"""
