#!/bin/sh
# `narswarm setup` refused: this script changes nothing.
cat >&2 <<'END'
@REASON@END
exit 2
