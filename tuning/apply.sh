#!/bin/sh
# Mends what check.sh finds and can be mended while the host runs. Without --apply it changes nothing, and says what it would do.
# With it, it first writes a script that puts everything back, and then changes one file after the other.
#
#   sh tuning/apply.sh [--dry-run | --apply] [--core N]... [--undo FILE] [--root DIR]
#
# Exit code: 0 done, or nothing to do; 1 the host refused something, which is said; 2 it was called wrongly.
set -eu
LC_ALL=C
export LC_ALL

here=$(dirname "$0")
root=
cores=
apply=
undo=hypersockets-undo.sh
US=$(printf '\037')

usage() {
    echo "usage: apply.sh [--dry-run | --apply] [--core N]... [--undo FILE] [--root DIR]" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --dry-run)
        apply=
        shift
        continue
        ;;
    --apply)
        apply=1
        shift
        continue
        ;;
    esac
    [ $# -gt 1 ] || usage
    case $1 in
    --core) cores="$cores $2" ;;
    --undo) undo=$2 ;;
    --root) root=$2 ;;
    *) usage ;;
    esac
    shift 2
done

set --
for core in $cores; do
    set -- "$@" --core "$core"
done
# 1 says that something was found; anything beyond that the wrong call was ours to pass on.
code=0
findings=$(sh "$here/check.sh" --porcelain --root "$root" "$@") || code=$?
[ "$code" -le 1 ] || exit "$code"

# All cpus that are online but those that were named, as a list.
housekeeping() {
    awk -v cores="$cores" '
        BEGIN { count = split(cores, named, " "); for (i = 1; i <= count; i++) taken[named[i] + 0] = 1 }
        {
            parts = split($0, ranges, ",")
            for (i = 1; i <= parts; i++) {
                ends = split(ranges[i], bounds, "-")
                last = ends > 1 ? bounds[2] : bounds[1]
                for (cpu = bounds[1] + 0; cpu <= last + 0; cpu++)
                    if (!(cpu in taken)) list = list (list == "" ? "" : ",") cpu
            }
        }
        END { print list }' "$root/sys/devices/system/cpu/online"
}

# What each finding comes to: "write FILE OLD NEW", or "hand NAME MEND".
plan=$(
    echo "$findings" | while IFS=$US read -r id core file value set mend; do
        [ -n "$id" ] || continue
        # Of "always [madvise] never" the word that is in force.
        case $value in
        *"["*"]"*) value=$(echo "$value" | sed 's/.*\[\(.*\)\].*/\1/') ;;
        esac
        case $set in
        "") echo "hand$US$id${core:+, core $core}$US$mend" ;;
        housekeeping) echo "write$US$file$US$value$US$(housekeeping)" ;;
        disable) echo "write$US${file%/*}/disable${US}0${US}1" ;;
        *) echo "write$US$file$US$value$US$set" ;;
        esac
    done | sort -u
)

writes=$(echo "$plan" | grep "^write$US" || true)
hands=$(echo "$plan" | grep "^hand$US" || true)

# With every core named there is nobody left to do the rest.
if [ -n "$cores" ] && [ -z "$(housekeeping)" ]; then
    echo "error: all cores were named, and none is left for the host's own work" >&2
    exit 2
fi

refused=0
if [ -z "$writes" ]; then
    echo "nothing to change"
elif [ -z "$apply" ]; then
    echo "$writes" | while IFS=$US read -r _ file old new; do
        echo "would write \"$new\" to $file, which says \"$old\""
    done
    echo "nothing was changed: --apply does it, and writes $undo first"
else
    if [ -e "$undo" ]; then
        echo "error: $undo is there already, and may be the only way back from an earlier run: run it, or name another by --undo" >&2
        exit 2
    fi
    {
        echo "#!/bin/sh"
        echo "# Puts back what apply.sh changed."
        echo "$writes" | while IFS=$US read -r _ file old _; do
            echo "echo '$old' > '$file'"
        done
    } >"$undo"
    sync "$undo" 2>/dev/null || sync
    echo "the way back: sh $undo"
    while IFS=$US read -r _ file old new; do
        if (echo "$new" >"$file") 2>/dev/null; then
            echo "wrote \"$new\" to $file, which said \"$old\""
        else
            echo "refused: $file still says \"$old\"" >&2
            refused=1
        fi
    done <<END
$writes
END
fi

if [ -n "$hands" ]; then
    echo "by hand:"
    echo "$hands" | while IFS=$US read -r _ name mend; do
        echo "  $name: $mend"
    done
fi
exit "$refused"
