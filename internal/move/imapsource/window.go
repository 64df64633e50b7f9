package imapsource

import (
	"sort"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// windows cuts the UIDs that are to be read into windows: from the lowest up, or the highest
// block first.
type windows struct {
	left   mail.UIDSet
	newest bool
}

// next returns the next window, empty at the end.
func (w *windows) next() (out mail.UIDSet) {
	if w.newest {
		return w.last()
	}
	n := 0
	for len(w.left) > 0 && n < move.MaxItems {
		r := &w.left[0]
		take := min(int(r.To-r.From)+1, move.MaxItems-n)
		out.AddRange(r.From, r.From+mail.UID(take-1))
		n += take
		if r.From += mail.UID(take); r.From > r.To || r.From == 0 {
			w.left = w.left[1:]
		}
	}
	return out
}

func (w *windows) last() mail.UIDSet {
	var rev []mail.Range
	n := 0
	for len(w.left) > 0 && n < move.MaxItems {
		r := &w.left[len(w.left)-1]
		take := min(int(r.To-r.From)+1, move.MaxItems-n)
		from := r.To - mail.UID(take-1)
		rev = append(rev, mail.Range{From: from, To: r.To})
		n += take
		if from == r.From {
			w.left = w.left[:len(w.left)-1]
		} else {
			r.To = from - 1
		}
	}
	out := make(mail.UIDSet, len(rev))
	for i, r := range rev {
		out[len(rev)-1-i] = r
	}
	return out
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
