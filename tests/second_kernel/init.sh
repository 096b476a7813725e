#!/busybox sh
# The first program of the machine inside, in its initramfs: the host's root, read-only, with a layer in memory above it.
# Arguments: the modules to load, in order, then `--` and the program that goes on.
set -e
/busybox mkdir -p /dev /host /layer /root
/busybox mount -t devtmpfs none /dev
while [ "$1" != -- ]; do
    /busybox insmod "/$1.ko"
    shift
done
shift
/busybox mount -t virtiofs -o ro host /host
/busybox mount -t tmpfs none /layer
/busybox mkdir /layer/upper /layer/work
/busybox mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work none /root
/busybox mount -o move /dev /root/dev
exec /busybox switch_root /root "$@"
