"""From folders of photographs to weights."""
