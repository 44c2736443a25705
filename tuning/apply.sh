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

# Not echo, which takes a backslash in some file for an order.
say() {
    printf '%s\n' "$1"
}

# As one word of a shell, whatever is in it.
quoted() {
    say "$1" | sed "s/'/'\\\\''/g; s/^/'/; s/\$/'/"
}

set --
for core in $cores; do
    set -- "$@" --core "$core"
done
# 1 says that something was found; anything beyond that the wrong call was ours to pass on.
code=0
findings=$(sh "$here/check.sh" --porcelain --root "$root" "$@") || code=$?
[ "$code" -le 1 ] || exit "$code"

# All cpus that are online but those that were named and those that are isolated, which may be another program's, as a list.
housekeeping=
if [ -n "$cores" ]; then
    cpus=$root/sys/devices/system/cpu
    housekeeping=$(awk -v taken="$(say "$cores" | tr ' ' ','),$(cat "$cpus/isolated" 2>/dev/null)" '
        function take(list, is_online,    parts, ranges, ends, bounds, i, cpu) {
            parts = split(list, ranges, ",")
            for (i = 1; i <= parts; i++) {
                if (ranges[i] !~ /^[0-9]+(-[0-9]+)?$/) continue
                ends = split(ranges[i], bounds, "-")
                for (cpu = bounds[1] + 0; cpu <= bounds[ends] + 0; cpu++)
                    if (!is_online) is_taken[cpu] = 1
                    else if (!(cpu in is_taken)) free = free (free == "" ? "" : ",") cpu
            }
        }
        BEGIN { take(taken, 0) }
        { take($0, 1) }
        END { print free }' "$cpus/online")
    if [ -z "$housekeeping" ]; then
        echo "error: all cores are named or isolated, and none is left for the host's own work" >&2
        exit 2
    fi
fi

# What each finding comes to: "write FILE OLD NEW", or "hand NAME MEND".
plan=$(
    say "$findings" | while IFS=$US read -r id core file value set mend; do
        [ -n "$id" ] || continue
        # Of "always [madvise] never" the word that is in force.
        case $value in
        *"["*"]"*) value=$(say "$value" | sed 's/.*\[\(.*\)\].*/\1/') ;;
        esac
        case $set in
        "") say "hand$US$id${core:+, core $core}$US$mend" ;;
        housekeeping) say "write$US$file$US$value$US$housekeeping" ;;
        disable) say "write$US${file%/*}/disable${US}0${US}1" ;;
        *) say "write$US$file$US$value$US$set" ;;
        esac
    done | sort -u
)

writes=$(say "$plan" | grep "^write$US" || true)
hands=$(say "$plan" | grep "^hand$US" || true)

# Whether there is a file among those of the plan that may be written.
may_write() {
    say "$writes" | while IFS=$US read -r _ file _; do
        [ ! -w "$file" ] || echo yes
    done | grep -q yes
}

refused=0
if [ -z "$writes" ]; then
    echo "nothing to change"
elif [ -z "$apply" ]; then
    say "$writes" | while IFS=$US read -r _ file old new; do
        say "would write \"$new\" to $file, which says \"$old\""
    done
    echo "nothing was changed: --apply does it, and writes $undo first"
else
    if [ -e "$undo" ]; then
        echo "error: $undo is there already, and may be the only way back from an earlier run: run it, or name another by --undo" >&2
        exit 2
    fi
    if ! may_write; then
        echo "error: none of the files may be written: run it as root, on the host itself" >&2
        exit 1
    fi
    # Noclobber: nobody's file is written over, and no link followed, that came since.
    (
        set -C
        {
            echo "#!/bin/sh"
            echo "# Puts back what apply.sh changed. Exit code: 0 done, 1 the host refused something."
            echo "code=0"
            say "$writes" | while IFS=$US read -r _ file old _; do
                say "printf '%s\\n' $(quoted "$old") >$(quoted "$file") || code=1"
            done
            echo "exit \$code"
        } >"$undo"
    )
    sync "$undo" 2>/dev/null || sync
    say "the way back: sh $(quoted "$undo")"
    while IFS=$US read -r _ file old new; do
        if (say "$new" >"$file") 2>/dev/null; then
            say "wrote \"$new\" to $file, which said \"$old\""
        else
            say "refused: $file still says \"$old\"" >&2
            refused=1
        fi
    done <<END
$writes
END
fi

if [ -n "$hands" ]; then
    echo "by hand:"
    say "$hands" | while IFS=$US read -r _ name mend; do
        say "  $name: $mend"
    done
fi
exit "$refused"
