"""`landcover bench statistics`: what statistics of polygons cost, beside counting the pixels of a finished map."""
