package imapd

import (
	"slices"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// storeNotes is STORE and UID STORE of ANNOTATION (RFC 5257, 4.5). It is silent, but for
// the new modseq to clients that know such.
func (s *session) storeNotes(cmd *command, args imap.Store) (reply, error) {
	uids, missing, err := s.resolve(args.Set, cmd.uid)
	if err != nil {
		return reply{}, err
	}
	if err := s.checkParts(uids, args.Notes); err != nil {
		return reply{}, err
	}
	var since *mail.ModSeq
	if args.Conditional {
		s.enableCondstore()
		mod := mail.ModSeq(args.Unchanged)
		since = &mod
	}
	result, err := s.view.acct.SetNotes(s.ctx, s.view.box, uids, noteChanges(args.Notes), since)
	cmd.own = &ownChange{set: result.Changed, silent: true, notes: args.Notes}
	if err != nil {
		return reply{}, noteRefusal(err)
	}
	return s.stored(cmd, missing, s.view.pic.Existing(result.Failed)), nil
}

func noteChanges(notes []imap.NoteValue) (changes []store.NoteChange) {
	for _, n := range notes {
		changes = append(changes, store.NoteChange{Name: n.Entry, Private: n.Private, Value: n.Value})
	}
	return changes
}

// noteRefusal gives the faults of annotations their response codes (RFC 5257, 4.5).
func noteRefusal(err error) error {
	switch fault.Of(err) {
	case fault.TooLarge:
		return coded("ANNOTATE TOOBIG", err)
	case fault.Limited:
		return coded("ANNOTATE TOOMANY", err)
	}
	return err
}

// noPart is the error for an annotation of a part that is not there (RFC 5257, 3.2.1).
func noPart() error {
	return misuse(fault.New(fault.Invalid, "there is no such part of the message to annotate"))
}

// hasParts tells whether a message has the parts that annotations are about.
func hasParts(root *mime.Part, notes []imap.NoteValue) bool {
	for _, n := range notes {
		if path := imap.NotePart(n.Entry); path != nil && root.Find(path) == nil {
			return false
		}
	}
	return true
}

// checkParts fails unless all messages have the parts that annotations are about.
func (s *session) checkParts(uids mail.UIDSet, notes []imap.NoteValue) error {
	if !slices.ContainsFunc(notes, func(n imap.NoteValue) bool { return imap.NotePart(n.Entry) != nil }) {
		return nil
	}
	return s.eachFacts(s.listed(uids, nil).ids, func(_ int, f *store.Facts) error {
		root, err := f.Parts()
		if err == nil && !hasParts(root, notes) {
			err = noPart()
		}
		return err
	})
}

// noteSupport says in SELECT what can be done with annotations (RFC 5257, 4.1).
func (v *view) noteSupport() string {
	if v.readOnly {
		return "ANNOTATIONS READ-ONLY"
	}
	return "ANNOTATIONS " + strconv.Itoa(store.MaxNoteValue)
}

// noteReader answers for the item ANNOTATION of a FETCH.
type noteReader struct {
	item     *imap.FetchItem
	patterns []imap.Pattern            // of the entries that have wildcards; else nil
	of       map[mail.UID][]store.Note // those of a chunk, that have a value
}

func isWild(entry string) bool { return strings.ContainsAny(entry, "*%") }

func newNoteReader(item *imap.FetchItem) *noteReader {
	r := &noteReader{item: item, patterns: make([]imap.Pattern, len(item.Entries)), of: map[mail.UID][]store.Note{}}
	for i, e := range item.Entries {
		r.patterns[i] = imap.NewPattern(e)
	}
	return r
}

// readNotes reads the annotations of messages of the view, in place of those it had read
// before. In a mailbox that has none it reads nothing.
func (s *session) readNotes(r *noteReader, list []store.Message) error {
	clear(r.of)
	if box := s.view.pic.Mailbox(); !box.HasNotes() || len(list) == 0 {
		return nil
	}
	var set mail.UIDSet
	for _, m := range list {
		set.Add(m.UID)
	}
	return s.view.acct.View(s.ctx, func(snap *store.Snapshot) error {
		clear(r.of)
		return snap.EachNote(s.view.box, set, func(n store.Note) bool {
			if n.Value != nil {
				r.of[n.UID] = append(r.of[n.UID], n)
			}
			return true
		})
	})
}

// wants tells whether any attribute of annotations of this kind is asked for.
func (r *noteReader) wants(private bool) bool {
	return slices.ContainsFunc(r.item.Attributes, func(a imap.NoteAttribute) bool { return isPrivate(a) == private })
}

func isPrivate(a imap.NoteAttribute) bool {
	return a == imap.NoteValuePrivate || a == imap.NoteSizePrivate
}

// entries returns the entries to tell of a message: those that were named, and what there
// is of those that wildcards mean.
func (r *noteReader) entries(notes []store.Note) (names []string) {
	known := map[string]bool{}
	add := func(name string) {
		if !known[name] {
			known[name] = true
			names = append(names, name)
		}
	}
	for i, e := range r.item.Entries {
		if !isWild(e) {
			add(e)
			continue
		}
		from := len(names)
		for _, n := range notes {
			if r.wants(n.Private) && r.patterns[i].Match(n.Name) {
				add(n.Name)
			}
		}
		slices.Sort(names[from:])
	}
	return names
}

// writeNotes writes the ANNOTATION item of a message (RFC 5257, 4.4).
func (s *session) writeNotes(r *noteReader, uid mail.UID) {
	notes := r.of[uid]
	e := s.enc
	e.Raw("ANNOTATION (")
	for i, name := range r.entries(notes) {
		if i > 0 {
			e.SP()
		}
		e.AString(name).Raw(" (")
		for j, a := range r.item.Attributes {
			if j > 0 {
				e.SP()
			}
			var value []byte
			for _, n := range notes {
				if n.Name == name && n.Private == isPrivate(a) {
					value = n.Value
				}
			}
			e.Raw(a.String()).SP()
			if a == imap.NoteSizePrivate || a == imap.NoteSizeShared {
				e.Raw(`"`).Number(uint64(len(value))).Raw(`"`)
			} else {
				e.RawBytes(imap.AppendValue(nil, value, false))
			}
		}
		e.Raw(")")
	}
	e.Raw(")")
}

// noteNews returns which annotations of messages others have changed since the client was
// told of such, if it asked for that (RFC 5257, 4.4).
func (s *session) noteNews(cmd *command, set mail.UIDSet, tell telling) (map[mail.UID][]string, error) {
	v := s.view
	if box := v.pic.Mailbox(); !tell.notes || !box.HasNotes() || set.IsEmpty() {
		return nil, nil
	}
	news := map[mail.UID][]string{}
	since := v.noted
	err := v.acct.View(s.ctx, func(snap *store.Snapshot) error {
		clear(news)
		return snap.EachNote(v.box, set, func(n store.Note) bool {
			if n.ModSeq > since && n.ModSeq <= v.pic.ModSeq() && !cmd.own.knows(n) && !slices.Contains(news[n.UID], n.Name) {
				news[n.UID] = append(news[n.UID], n.Name)
			}
			return true
		})
	})
	v.noted = v.pic.ModSeq()
	return news, err
}

// knows tells whether a change of the client's own made an annotation what it is.
func (o *ownChange) knows(n store.Note) bool {
	return o != nil && o.set.Contains(n.UID) && slices.ContainsFunc(o.notes, func(c imap.NoteValue) bool {
		return c.Entry == n.Name && c.Private == n.Private
	})
}

// writeNews writes the names of annotations that changed.
func (s *session) writeNews(names []string) {
	s.enc.Raw("ANNOTATION (")
	for i, name := range names {
		if i > 0 {
			s.enc.SP()
		}
		s.enc.AString(name)
	}
	s.enc.Raw(")")
}

// noteTest tests the search key ANNOTATION (RFC 5257, 4.8): the annotations of the
// mailbox are read once.
func (q *search) noteTest(k *imap.SearchKey) (func(*store.Message) bool, error) {
	var found mail.UIDSet
	box := q.v.pic.Mailbox()
	if !box.HasNotes() {
		return func(*store.Message) bool { return false }, nil
	}
	pattern, text := imap.NewPattern(k.Field), q.s.comparator.Fold(k.Text)
	err := q.v.acct.View(q.s.ctx, func(snap *store.Snapshot) error {
		found = nil
		return snap.EachNote(q.v.box, q.among, func(n store.Note) bool {
			kind := uint64(imap.SearchShared)
			if n.Private {
				kind = imap.SearchPrivate
			}
			if n.Value != nil && k.Number&kind != 0 && pattern.Match(n.Name) && strings.Contains(q.s.comparator.Fold(string(n.Value)), text) {
				found.Add(n.UID)
			}
			return true
		})
	})
	return func(m *store.Message) bool { return found.Contains(m.UID) }, err
}

// fillNotes fills in the columns that are annotations (RFC 5257, 4.9). uids are those
// of the messages.
func (s *session) fillNotes(columns []*sortColumn, uids []mail.UID) error {
	isNote := func(c *sortColumn) bool { return c.by.Key == imap.SortAnnotation }
	if box := s.view.pic.Mailbox(); !box.HasNotes() || !slices.ContainsFunc(columns, isNote) {
		return nil
	}
	return s.view.acct.View(s.ctx, func(snap *store.Snapshot) error {
		return snap.EachNote(s.view.box, store.All(), func(n store.Note) bool {
			i, there := slices.BinarySearch(uids, n.UID)
			for _, c := range columns {
				if there && isNote(c) && c.by.Entry == n.Name && c.by.Private == n.Private {
					c.text(i, n.Value)
				}
			}
			return true
		})
	})
}
