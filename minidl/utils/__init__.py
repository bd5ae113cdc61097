"""Tools around training: `minidl.utils.checkpoint`."""
