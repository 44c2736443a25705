#!/bin/sh
# What on this host stands between it and low latency. Reads, and changes nothing. The same findings as `hypersockets doctor`: both
# read checks.toml, which says what its words mean.
#
#   sh tuning/check.sh [--core N]... [--root DIR] [--porcelain]
#
# Exit code: 0 nothing was found, 1 something was, 2 it was called wrongly.
set -eu
# The same order of files, and the same words, wherever it runs.
LC_ALL=C
export LC_ALL

here=$(dirname "$0")
root=
cores=
porcelain=
US=$(printf '\037')

usage() {
    echo "usage: check.sh [--core N]... [--root DIR] [--porcelain]" >&2
    exit 2
}

is_number() {
    case $1 in
    '' | *[!0-9]*) return 1 ;;
    esac
}

while [ $# -gt 0 ]; do
    case $1 in
    --core)
        if [ $# -lt 2 ] || ! is_number "$2"; then usage; fi
        cores="$cores $2"
        shift 2
        ;;
    --root)
        [ $# -gt 1 ] || usage
        root=$2
        shift 2
        ;;
    # For apply.sh: a line for each file that fails, its fields parted by the unit separator.
    --porcelain)
        porcelain=1
        shift
        ;;
    *) usage ;;
    esac
done

if [ -n "$root" ] && [ ! -d "$root" ]; then
    printf 'error: %s is no folder\n' "$root" >&2
    exit 2
fi
for core in $cores; do
    if [ ! -d "$root/sys/devices/system/cpu/cpu$core" ]; then
        echo "error: this host has no core $core" >&2
        exit 2
    fi
done

# Not echo, which takes a backslash in some file for an order.
say() {
    printf '%s\n' "$1"
}

# The text of a file on one line: spaces for what is between its words, and a question mark for each byte that a terminal might take
# for an order, or that is no ASCII. It fails where the file cannot be read. Only within $( ): it changes how words are split.
content() {
    # tr repeats its last character as often as it needs to.
    text=$(tr '\000\t\n\001-\010\013-\037\177-\377' '   ?' <"$1") || return
    # Not by sed: a large host has thousands of these files.
    set -f
    IFS=' '
    # shellcheck disable=SC2086
    set -- $text
    say "$*"
}

# A long text by its beginning.
shorten() {
    say "$1" | awk '{ if (length($0) > 60) print substr($0, 1, 60) "..."; else print }'
}

# list_has LIST N: a number of more than nine digits is none; on the command line the kernel takes "all" too, and N for its last cpu.
list_has() {
    say "$1" | awk -F, -v n="$2" '
        function number(text) { return text ~ /^[0-9]+$/ && length(text) <= 9 }
        {
            for (i = 1; i <= NF; i++) {
                parts = split($i, ends, "-")
                if (parts == 1) ends[2] = ends[1]
                if (parts == 2 && ends[2] == "N") ends[2] = 999999999
                if ($i == "all") found = 1
                if (parts <= 2 && number(ends[1]) && number(ends[2]) && ends[1] + 0 <= n && n <= ends[2] + 0) found = 1
            }
        }
        END { exit !found }'
}

# mask_has MASK N: each word has 32 bits, the last the lowest.
mask_has() {
    say "$1" | awk -v n="$2" '{
        count = split($0, words, ",")
        word = words[count - int(n / 32)]
        if (word !~ /^[0-9a-fA-F]+$/ || length(word) > 8) exit 1
        bit = n % 32
        digit = substr(word, length(word) - int(bit / 4), 1)
        value = index("0123456789abcdef", tolower(digit)) - 1
        for (i = 0; i < bit % 4; i++) value = int(value / 2)
        exit !(digit != "" && value % 2 == 1)
    }'
}

# among TEXT LIST: the list is parted by |.
among() {
    case "|$2|" in
    *"|$1|"*) return 0 ;;
    esac
    return 1
}

# last_number TEXT: the last word, if it is a number; one of more than 18 digits is none.
last_number() {
    say "$1" | awk '$NF ~ /^-?[0-9]+$/ && length($NF) <= 18 { print $NF }'
}

# passes FILE RULE WANT CORE VALUE
passes() {
    case $2 in
    one_of) among "$5" "$3" ;;
    none_of) ! among "$5" "$3" ;;
    at_least | at_most)
        number=$(last_number "$5")
        [ -n "$number" ] || return 1
        if [ "$2" = at_least ]; then [ "$number" -ge "$3" ]; else [ "$number" -le "$3" ]; fi
        ;;
    selected) among "$(say "$5" | sed 's/.*\[\(.*\)\].*/\1/')" "$3" ;;
    lists_core) list_has "$5" "$4" ;;
    omits_core) ! list_has "$5" "$4" ;;
    core_alone) [ "$5" = "$4" ] ;;
    mask_omits_core) ! mask_has "$5" "$4" ;;
    parameter_lists_core) list_has "$(say "$5" | tr ' ' '\n' | sed -n "s/^$3=//p")" "$4" ;;
    lines_at_most) [ "$(wc -l <"$1")" -le "$3" ] ;;
    enabled_exit_at_most)
        number=$(last_number "$5")
        { [ -n "$number" ] && [ "$number" -le "$3" ]; } || [ "$(content "${1%/*}/disable" 2>/dev/null)" = 1 ]
        ;;
    *)
        echo "error: checks.toml has a rule that this script does not know: $2" >&2
        exit 2
        ;;
    esac
}

found=0

# judge ID LEVEL CORE FILE RULE WANT WISH SET WHY MEND UNDO SOURCE; CORE is empty for the host.
judge() {
    # Names of their own: the loops below have theirs, and sh knows no local ones.
    j_id=$1 j_level=$2 j_core=$3 j_file=$4 j_rule=$5 j_want=$6 j_wish=$7 j_set=$8 j_why=$9
    shift 9
    j_name=$j_id
    [ -z "$j_core" ] || j_name="$j_id, core $j_core"
    pattern=$root$(echo "$j_file" | sed "s/{core}/$j_core/")
    seen=0
    failed=0
    first=
    # The pattern is to be expanded, and a root with spaces in it is not to be split.
    IFS=
    # shellcheck disable=SC2086
    for each in $pattern; do
        if [ ! -f "$each" ] || [ ! -r "$each" ]; then continue; fi
        value=$(content "$each" 2>/dev/null) || continue
        seen=$((seen + 1))
        if passes "$each" "$j_rule" "$j_want" "$j_core" "$value"; then continue; fi
        failed=$((failed + 1))
        [ -n "$first" ] || first="${each#"$root"} says \"$(shorten "$value")\""
        [ -z "$porcelain" ] || say "$j_id$US$j_core$US$each$US$value$US$j_set$US$1"
    done
    unset IFS
    if [ "$failed" -gt 0 ]; then
        [ "$j_level" = hint ] || found=1
        [ -z "$porcelain" ] || return 0
        more=
        [ "$failed" -eq 1 ] || more=", and $((failed - 1)) more"
        word=FAIL
        [ "$j_level" = fail ] || word=hint
        say "$word  $j_name: $first$more; wanted: $j_wish"
        echo "      why:  $j_why"
        echo "      mend: $1"
        echo "      undo: $2"
        echo "      by:   $3"
    elif [ -n "$porcelain" ]; then
        :
    elif [ "$seen" -eq 0 ] && [ "$j_rule" != none_of ]; then
        echo "skip  $j_name: this host has no ${pattern#"$root"}"
    else
        echo "ok    $j_name"
    fi
}

# One line a check, its fields parted by the unit separator.
checks=$(awk -v US="$US" '
    function flush() {
        if (id != "") print id US level US scope US file US rule US want US wish US set US why US mend US undo US source
    }
    /^\[\[check\]\]/ { flush(); id = ""; next }
    /^[a-z]+ = "/ {
        key = $1
        text = $0
        sub(/^[a-z]+ = "/, "", text)
        sub(/"$/, "", text)
        if (key == "id") id = text
        else if (key == "level") level = text
        else if (key == "scope") scope = text
        else if (key == "file") file = text
        else if (key == "rule") rule = text
        else if (key == "want") want = text
        else if (key == "wish") wish = text
        else if (key == "set") set = text
        else if (key == "why") why = text
        else if (key == "mend") mend = text
        else if (key == "undo") undo = text
        else if (key == "source") source = text
    }
    END { flush() }
' "$here/checks.toml")

while IFS=$US read -r id level scope file rule want wish set why mend undo source; do
    if [ "$scope" = host ]; then
        judge "$id" "$level" "" "$file" "$rule" "$want" "$wish" "$set" "$why" "$mend" "$undo" "$source"
    else
        for core in $cores; do
            judge "$id" "$level" "$core" "$file" "$rule" "$want" "$wish" "$set" "$why" "$mend" "$undo" "$source"
        done
    fi
done <<END
$checks
END

if [ -z "$porcelain" ] && [ -z "$cores" ]; then
    echo "note  nothing was asked of any core: name those of the loop and of the handlers, each by --core N"
fi
exit "$found"
