"""Images that are made on this machine: `busybox` and `host`."""
