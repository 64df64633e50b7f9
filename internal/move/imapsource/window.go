package imapsource

import (
	"slices"
	"sort"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// windows cuts the UIDs that are to be read into windows: from the lowest up, or the highest
// block first.
type windows struct {
	left   mail.UIDSet
	newest bool
	dense  bool // they are all that there are: what lies between two is nothing
}

// mostRanges is how many ranges a command names, so that its line is not longer than servers
// must take (8,000 bytes; RFC 2683, 3.2.1.5).
const mostRanges = 340

// next returns the next window, nil at the end.
func (w *windows) next() *window {
	var list mail.UIDSet
	n := 0
	for len(w.left) > 0 && n < move.MaxItems && (w.dense || len(list) < mostRanges) {
		var part mail.Range
		if w.newest {
			part = w.last(move.MaxItems - n)
		} else {
			part = w.first(move.MaxItems - n)
		}
		list = append(list, part)
		n += int(part.To-part.From) + 1
	}
	if n == 0 {
		return nil
	}
	if w.newest {
		slices.Reverse(list)
	}
	out := &window{dense: w.dense, uids: list, all: list}
	if w.dense {
		out.uids = mail.UIDSet{{From: list[0].From, To: list[len(list)-1].To}}
	}
	return out
}

// first takes at most so many of the lowest UIDs, that are in a row.
func (w *windows) first(most int) mail.Range {
	r := &w.left[0]
	part := mail.Range{From: r.From, To: r.From + mail.UID(min(int(r.To-r.From)+1, most)-1)}
	if part.To == r.To {
		w.left = w.left[1:]
	} else {
		r.From = part.To + 1
	}
	return part
}

// last takes at most so many of the highest.
func (w *windows) last(most int) mail.Range {
	r := &w.left[len(w.left)-1]
	part := mail.Range{From: r.To - mail.UID(min(int(r.To-r.From)+1, most)-1), To: r.To}
	if part.From == r.From {
		w.left = w.left[:len(w.left)-1]
	} else {
		r.To = part.From - 1
	}
	return part
}

// sort puts a window's items into the order of their UIDs, if the server did not.
func (w *window) sort() { sort.Sort(byUID{w}) }

type byUID struct{ *window }

func (b byUID) Len() int           { return len(b.uid) }
func (b byUID) Less(i, j int) bool { return b.uid[i] < b.uid[j] }
func (b byUID) Swap(i, j int) {
	b.uid[i], b.uid[j] = b.uid[j], b.uid[i]
	b.items[i], b.items[j] = b.items[j], b.items[i]
}
