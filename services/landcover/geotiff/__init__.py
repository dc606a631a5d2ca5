"""GeoTIFFs as scenes: local files, http(s) and s3, read by GDAL."""
