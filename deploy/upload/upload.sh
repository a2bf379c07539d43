#!/bin/sh
# Puts every model of the folder $1 into the repository $2. A model appears whole or not at all: it is
# copied beside its place and then renamed. Models that are only in the repository stay.
set -eu
from=$1 to=$2
for model in "$from"/*/; do
    [ -d "$model" ] || { echo "no models in $from" >&2; exit 1; }
    name=$(basename "$model")
    new=$to/.new-$name old=$to/.old-$name
    rm -rf "$new" "$old"
    cp -R "$from/$name" "$new"
    # Between these two the model is not there for an instant, and Triton keeps what it has loaded.
    [ ! -e "$to/$name" ] || mv "$to/$name" "$old"
    mv "$new" "$to/$name"
    rm -rf "$old"
    echo "$name"
done
