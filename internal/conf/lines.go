package conf

import (
	"fmt"
	"sort"

	"github.com/pelletier/go-toml/v2/unstable"
)

// lineIndex knows the line on which each key stands. Keys are written with their
// tables and, in lists, their number: "queue.port", "listen[0].address".
type lineIndex struct {
	p     unstable.Parser
	ends  []int // offsets of line feeds
	at    map[string]int
	lists map[string]int // list of tables: number of its last one
}

// indexLines reads a text that the TOML decoder has accepted.
func indexLines(text []byte) map[string]int {
	x := &lineIndex{at: map[string]int{}, lists: map[string]int{}}
	for i, c := range text {
		if c == '\n' {
			x.ends = append(x.ends, i)
		}
	}
	x.p.Reset(text)
	table := ""
	for x.p.NextExpression() {
		e := x.p.Expression()
		switch e.Kind {
		case unstable.Table:
			table = x.name("", e, false)
		case unstable.ArrayTable:
			table = x.name("", e, true)
		case unstable.KeyValue:
			x.value(x.name(table, e, false), e.Value())
		}
	}
	return x.at
}

// name returns the full key of an expression and notes its line.
func (x *lineIndex) name(table string, e *unstable.Node, newElement bool) string {
	full := table
	for it := e.Key(); it.Next(); {
		full = join(full, string(it.Node().Data))
		last := it.IsLast() && newElement
		if n, ok := x.lists[full]; last {
			if !ok {
				n = -1
			}
			x.lists[full] = n + 1
			x.note(full, it.Node())
			full = element(full, n+1)
		} else if ok {
			full = element(full, n)
		}
		x.note(full, it.Node())
	}
	return full
}

// value goes down into inline tables and lists.
func (x *lineIndex) value(full string, v *unstable.Node) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			x.value(x.name(full, it.Node(), false), it.Node().Value())
		}
	case unstable.Array:
		n := 0
		for it := v.Children(); it.Next(); n++ {
			if it.Node().Raw.Length > 0 {
				x.note(element(full, n), it.Node())
			}
			x.value(element(full, n), it.Node())
		}
	}
}

func (x *lineIndex) note(full string, n *unstable.Node) {
	if _, ok := x.at[full]; !ok {
		x.at[full] = 1 + sort.SearchInts(x.ends, int(n.Raw.Offset))
	}
}

func join(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}

func element(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }
