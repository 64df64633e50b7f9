package imapd

import (
	"cmp"
	"slices"
	"sort"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// placer finds the places of messages in a sorted result. It reads the sort keys of those
// it compares and keeps them while it works.
type placer struct {
	s       *session
	v       *view
	columns []*sortColumn
	rows    []store.Message
	index   map[mail.UID]int32
	keyed   bool // the columns need keys
}

func (s *session) placer(by []imap.SortBy, comparator imap.Comparator) *placer {
	p := &placer{s: s, v: s.view, columns: newSortColumns(by, 0, comparator), index: map[mail.UID]int32{}}
	for _, c := range p.columns {
		p.keyed = p.keyed || c.needsKeys()
	}
	return p
}

// insertAdded puts what is added into a sorted result. Of each run, the place is that after
// those before it have been put in.
func (s *session) insertAdded(u *updating, set mail.UIDSet) (runs []run, err error) {
	added, places, err := s.placer(u.by, u.comparator).places(u.order, set)
	if err != nil {
		return nil, err
	}
	return u.insert(added, places), nil
}

// places returns messages in order and where in a sorted list, as it is, each belongs.
func (p *placer) places(order []mail.UID, set mail.UIDSet) (added []mail.UID, places []int, err error) {
	if added, err = p.sorted(set); err != nil {
		return nil, nil, err
	}
	places = make([]int, len(added))
	err = p.v.acct.View(p.s.ctx, func(snap *store.Snapshot) error {
		from := 0
		for i, uid := range added {
			at, err := p.find(snap, order[from:], uid)
			if err != nil {
				return err
			}
			from += at
			places[i] = from
		}
		return nil
	})
	return added, places, err
}

// insert puts messages in at their places and returns the runs they make.
func (u *updating) insert(added []mail.UID, places []int) (runs []run) {
	order := make([]mail.UID, 0, len(u.order)+len(added))
	from := 0
	for i, uid := range added {
		order = append(order, u.order[from:places[i]]...)
		if i == 0 || places[i] > from {
			runs = append(runs, run{at: len(order) + 1})
		}
		from = places[i]
		order = append(order, uid)
		last := &runs[len(runs)-1]
		last.list = append(last.list, uid)
	}
	u.order = append(order, u.order[from:]...)
	return runs
}

// sorted reads the keys of messages and returns them in order.
func (p *placer) sorted(set mail.UIDSet) ([]mail.UID, error) {
	var uids []mail.UID
	var ids []mail.MessageID
	for _, m := range p.v.pic.Messages(set) {
		p.add(m)
		uids, ids = append(uids, m.UID), append(ids, m.ID)
	}
	if p.keyed {
		err := p.s.eachKeys(ids, func(i int, k *store.Keys) error {
			p.fill(i, k)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(uids, p.compare)
	return uids, nil
}

// add makes room for a message in the columns and fills in what its row says.
func (p *placer) add(m store.Message) int {
	i := len(p.rows)
	p.rows = append(p.rows, m)
	p.index[m.UID] = int32(i)
	for _, c := range p.columns {
		c.grow(&m)
	}
	return i
}

func (p *placer) fill(i int, keys *store.Keys) {
	for _, c := range p.columns {
		c.fill(i, keys)
	}
}

// compare orders two messages whose keys have been read; equal ones stay in the order of
// the mailbox.
func (p *placer) compare(a, b mail.UID) int {
	for _, c := range p.columns {
		if d := c.compare(p.index[a], p.index[b]); d != 0 {
			return d
		}
	}
	return cmp.Compare(a, b)
}

// find returns where in a sorted list a message belongs. A message of the list that is
// gone and has no keys any more is passed over: it will be told to be removed.
func (p *placer) find(snap *store.Snapshot, list []mail.UID, uid mail.UID) (int, error) {
	var bad error
	at := sort.Search(len(list), func(i int) bool {
		for ; i < len(list) && bad == nil; i++ {
			known, err := p.read(snap, list[i])
			if bad = err; known {
				return p.compare(list[i], uid) > 0
			}
		}
		return true
	})
	return at, bad
}

// read reads the keys of a message if that has not been done; known is false if it is
// gone.
func (p *placer) read(snap *store.Snapshot, uid mail.UID) (known bool, err error) {
	if _, known := p.index[uid]; known {
		return true, nil
	}
	m, known := p.v.pic.Message(uid)
	if !known {
		return false, nil
	}
	var keys store.Keys
	if p.keyed {
		keys, err = snap.Keys(m.ID)
		if err != nil {
			if fault.Is(err, fault.NotFound) {
				err = nil
			}
			return false, err
		}
	}
	i := p.add(m)
	if p.keyed {
		p.fill(i, &keys)
	}
	return true, nil
}
