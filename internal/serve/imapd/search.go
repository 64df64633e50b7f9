package imapd

import (
	"slices"
	"sync"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// A search program is asked several times, each time of fewer messages: of the row of
// each, which lies in memory; of the keys, if they can tell anything, and the notes of
// those that it leaves open; of their header; of the text of what is open still.

// search is one search under way.
type search struct {
	s        *session
	v        *view // the mailbox that is searched
	root     cond
	needles  []string // texts looked for in bodies, folded
	sought   [][]byte // the same
	longest  int      // bytes of the longest
	keyed    bool     // keys can tell something
	dated    bool     // dates of sending are asked for
	attach   bool     // attachments are asked for
	keeping  sync.WaitGroup
	writing  sync.Mutex      // held while notes are written
	sifts    bool            // some of the texts can be sought in notes
	left     []store.Message // that their rows leave open
	pending  []*candidate    // that their notes leave open
	readings []*reading      // who read them
	loose    bool            // while the argument of FUZZY is compiled
	files    bool            // names of files are looked for
	among    mail.UIDSet     // the messages to search
	limit    int             // of them; 0: all
	done     int             // how many have been looked at
	lowest   mail.UID        // of the messages searched, if they are not all (RFC 9738)
	met      mail.UIDSet     // found by what lies in memory
	found    []mail.UID
	scores   map[mail.UID]uint8 // of what is found, in a fuzzy search
	missed   bool               // as in finding
}

// finding is what SEARCH or SORT found.
type finding struct {
	set    mail.UIDSet
	order  []mail.UID         // the same in SORT's order; nil after SEARCH
	scores map[mail.UID]uint8 // 1 to 100; nil unless the search was fuzzy
	missed bool               // a message was gone before it could be read
	lowest mail.UID           // of the messages searched, if a limit has kept it from the rest
}

const maxNeedles = 100 // texts looked for in each body

// find returns the messages of a view that fit the program.
func (s *session) find(v *view, key *imap.SearchKey) (finding, error) {
	return s.findBy(&search{s: s, v: v, limit: s.srv.opt.MessageLimit, among: store.All()}, key)
}

// findAmong returns those of some messages that fit the program.
func (s *session) findAmong(v *view, key *imap.SearchKey, among mail.UIDSet) (finding, error) {
	return s.findBy(&search{s: s, v: v, among: among}, key)
}

func (s *session) findBy(q *search, key *imap.SearchKey) (finding, error) {
	var err error
	if q.root, err = q.compile(key); err != nil {
		return finding{}, err
	}
	if len(q.needles) > maxNeedles {
		return finding{}, fault.Newf(fault.Limited, "a search may look for %d different texts in messages", maxNeedles)
	}
	if usesFuzzy(key) {
		q.scores = map[mail.UID]uint8{}
	}
	if err := q.run(); err != nil {
		return finding{}, err
	}
	s.progress.base += q.done
	set := q.met
	if set == nil {
		set = mail.SetOf(q.found...)
	}
	return finding{set: set, scores: q.scores, missed: q.missed, lowest: q.lowest}, nil
}

// run asks about all messages.
func (q *search) run() error {
	defer q.keepNotes()
	var probe candidate // one for all, of which most need no more than the row
	var scope mail.UIDSet
	scope, q.lowest = withinLimit(q.v.pic, q.scope(), q.limit)
	if p := &q.s.progress; p.goal == nil && !p.open {
		all := scope
		p.goal = func() int { return q.v.pic.Existing(all).Len() }
	}
	scope, more := q.marked(scope)
	if !more && q.scores == nil {
		q.met, q.done = scope, q.done+scope.Len()
		return nil
	}
	for _, probe.m = range q.v.pic.Messages(scope) {
		says := q.root.ask(&probe)
		if says != open {
			if q.done++; q.done%progressRows == 0 {
				if err := q.s.reached(q.done); err != nil {
					return err
				}
			}
		}
		switch says {
		case met:
			q.accept(&probe)
		case open:
			if q.left = append(q.left, probe.m); len(q.left) == keysAtOnce {
				if err := q.look(gathered); err != nil {
					return err
				}
			}
		}
	}
	return q.look(0)
}

// look asks the keys and the notes about the messages that their rows leave open, and
// reads those that are open still once they are so many.
func (q *search) look(enough int) (err error) {
	var rest []*candidate
	if q.keyed {
		rest, err = q.askKeys(q.left)
	} else {
		for i := range q.left {
			rest = append(rest, &candidate{m: q.left[i]})
		}
	}
	if err == nil {
		rest, err = q.sieve(rest)
	}
	if err != nil {
		return err
	}
	q.done += len(q.left) - len(rest)
	q.left, q.pending = q.left[:0], append(q.pending, rest...)
	if len(q.pending) < enough && q.keyed {
		return q.s.reached(q.done)
	}
	if len(q.pending) < enough {
		return nil
	}
	err = q.settle(q.pending)
	q.pending = nil
	return err
}

// accept enters a message among those found.
func (q *search) accept(c *candidate) {
	q.found = append(q.found, c.m.UID)
	if q.scores != nil {
		q.scores[c.m.UID] = q.root.relevancy(c)
	}
}

// scope returns the messages that can fit at all.
func (q *search) scope() mail.UIDSet {
	scope := q.among
	for _, c := range q.conds() {
		if c.op == imap.SearchSeq || c.op == imap.SearchUID {
			scope = intersect(scope, c.uids)
		}
	}
	return scope
}

// conds returns conditions that must all be met.
func (q *search) conds() []cond {
	if q.root.op == imap.SearchAnd {
		return q.root.kids
	}
	return []cond{q.root}
}

// marked returns those messages of a scope that there are and whose flags and keywords
// fit, and whether there is any condition beside these and the scope.
func (q *search) marked(scope mail.UIDSet) (_ mail.UIDSet, more bool) {
	var marks []cond
	for _, c := range q.conds() {
		if c.marks {
			marks = append(marks, c)
		} else if c.op != imap.SearchSeq && c.op != imap.SearchUID {
			more = true
		}
	}
	if len(marks) == 0 {
		if !more {
			scope = q.v.pic.Existing(scope)
		}
		return scope, more
	}
	fit := q.v.pic.Marked(scope, func(flags mail.Flags, keywords store.KeywordSet) bool {
		probe := candidate{m: store.Message{Flags: flags, Keywords: keywords}}
		return !slices.ContainsFunc(marks, func(c cond) bool { return c.ask(&probe) != met })
	})
	q.done += q.v.pic.Existing(scope).Len() - fit.Len()
	return fit, more
}
