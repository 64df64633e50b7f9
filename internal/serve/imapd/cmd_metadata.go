package imapd

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Annotations that are not stored as such.
const (
	entrySpecialUse = "/private/specialuse" // the mailbox's role (RFC 6154, 5.4)
	entryAdmin      = "/shared/admin"       // of the server, for reading only (RFC 5464, 6.2.2)
)

// getMetadata is GETMETADATA (RFC 5464, 4.2). The annotations of the server, mailbox
// "", are kept with the account: what is shared there is shared by all who sign in to
// it.
func (s *session) getMetadata(_ *command, args imap.GetMetadata) (reply, error) {
	for _, name := range args.Entries {
		if err := askable(name); err != nil {
			return reply{}, misuse(err)
		}
	}
	var found []listedEntry
	at, err := s.place(args.Mailbox)
	if err != nil {
		return reply{}, err
	}
	var box store.Mailbox
	err = at.acct.View(s.ctx, func(snap *store.Snapshot) (err error) {
		if box, err = at.annotated(snap.Mailbox); err != nil {
			return err
		}
		found, err = s.findEntries(snap, &at.owner, &box, args.Entries, args.Depth)
		return err
	})
	if err != nil {
		return reply{}, err
	}
	var long int
	fits := found[:0]
	for _, e := range found {
		if args.Limited && e.size > int(args.MaxSize) {
			long = max(long, e.size)
			continue
		}
		fits = append(fits, e)
	}
	if err := s.tellEntries(&at.owner, &box, fits); err != nil {
		return reply{}, err
	}
	if long > 0 {
		return okCode(fmt.Sprintf("METADATA LONGENTRIES %d", long), "GETMETADATA done"), nil
	}
	return ok("GETMETADATA done"), nil
}

// askable checks the name of an entry that a client asks for: any that could be the
// beginning of one.
func askable(name string) error {
	_, err := store.CleanEntry(name + "/a/b/c")
	return err
}

// annotated returns the mailbox of a place, and an empty one for the server, if the user
// may see and set its annotations (RFC 5464, 3.3).
func (p *place) annotated(find func(name string) (store.Mailbox, error)) (store.Mailbox, error) {
	if p.name == "" {
		return store.Mailbox{}, nil
	}
	box, err := find(p.name)
	if err != nil {
		return box, err
	}
	const some = mail.RightRead | mail.RightSeen | mail.RightWrite | mail.RightInsert | mail.RightPost
	have := p.acct.Rights(&box)
	if err := lacks(have, mail.RightLookup); err != nil || have&some != 0 {
		return box, err
	}
	return box, store.Refusal(have)
}

// listedEntry is an entry to be told: under the name the client used for it.
type listedEntry struct {
	name string
	size int
}

// findEntries returns what the names and the depth ask for, each entry once. Without
// a depth, a name that has no value is told as NIL.
func (s *session) findEntries(snap *store.Snapshot, of *owner, box *store.Mailbox, names []string, depth int) ([]listedEntry, error) {
	var all []listedEntry
	if depth != 0 {
		err := snap.EachEntry(box.ID, s.acct.ID(), func(e store.Entry) bool {
			all = append(all, listedEntry{e.Name, len(e.Value)})
			return true
		})
		if err != nil {
			return nil, err
		}
		if use, ok := of.specialUse(box); ok {
			all = append(all, listedEntry{entrySpecialUse, len(use)})
		}
	}
	var out []listedEntry
	seen := map[string]bool{}
	add := func(name, key string, size int) {
		if !seen[key] {
			seen[key] = true
			out = append(out, listedEntry{name, size})
		}
	}
	for _, name := range names {
		key := strings.ToLower(name)
		e, ok, err := s.entry(snap, of, box, key)
		if err != nil {
			return nil, err
		}
		if ok || depth == 0 {
			add(name, key, len(e))
		}
		for _, e := range all {
			rest, below := strings.CutPrefix(e.name, key+"/")
			if below && (depth == imap.DepthInfinity || !strings.Contains(rest, "/")) {
				add(e.name, e.name, e.size)
			}
		}
	}
	return out, nil
}

// entry returns the value of one annotation.
func (s *session) entry(snap *store.Snapshot, of *owner, box *store.Mailbox, key string) (value []byte, ok bool, err error) {
	if key == entrySpecialUse && box.ID != 0 {
		value, ok = of.specialUse(box)
		return value, ok, nil
	}
	e, ok, err := snap.Entry(box.ID, s.acct.ID(), key)
	return e.Value, ok, err
}

func (o *owner) specialUse(box *store.Mailbox) ([]byte, bool) {
	if box.ID == 0 || !special(box.Role) || o.prefix != "" {
		return nil, false
	}
	return []byte(useAttribute(box)), true
}

// tellListed writes the annotations that a LIST asks for of a mailbox (RFC 9590, 3). A
// mailbox that is gone meanwhile has none to tell.
func (s *session) tellListed(of *owner, box *store.Mailbox, names []string) error {
	list := make([]listedEntry, len(names))
	for i, n := range names {
		list[i].name = n
	}
	err := s.tellEntries(of, box, list)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// tellEntries writes METADATA responses (RFC 5464, 4.4.1), some entries at a time: the
// values are read in a Snapshot and written after it.
func (s *session) tellEntries(of *owner, about *store.Mailbox, list []listedEntry) error {
	for len(list) > 0 {
		n, start := 0, s.enc.Len()
		err := of.acct.View(s.ctx, func(snap *store.Snapshot) (err error) {
			s.enc.Truncate(start)
			box := store.Mailbox{}
			if about.ID != 0 {
				if box, err = snap.MailboxByID(about.ID); err != nil {
					return err
				}
			}
			n, err = s.encodeEntries(snap, of, &box, of.shown(about.Name), list)
			return err
		})
		if err != nil {
			s.enc.Truncate(start)
			return err
		}
		list = list[n:]
		if err := s.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) encodeEntries(snap *store.Snapshot, of *owner, box *store.Mailbox, name string, list []listedEntry) (n int, err error) {
	e, start := s.enc, s.enc.Len()
	e.Raw("* METADATA ").Mailbox(name).Raw(" (")
	for n < len(list) && e.Len()-start < flushAt {
		value, ok, err := s.entry(snap, of, box, strings.ToLower(list[n].name))
		if err != nil {
			return 0, err
		}
		if !ok {
			value = nil
		}
		if n > 0 {
			e.SP()
		}
		e.AString(list[n].name).SP().RawBytes(imap.AppendValue(nil, value, false))
		n++
	}
	e.Raw(")").CRLF()
	return n, nil
}

// setMetadata is SETMETADATA (RFC 5464, 4.3): all entries or none.
func (s *session) setMetadata(*command) (reply, error) {
	d := s.dec
	var args imap.SetMetadata
	if !d.ExpectSP() || !d.ExpectSetMetadata(&args, store.MaxEntryValue) || !d.ExpectCRLF() {
		if args.Huge > 0 && d.Err() == nil {
			return no(fmt.Sprintf("METADATA MAXSIZE %d", store.MaxEntryValue), "a value of %d bytes is too large", args.Huge), nil
		}
		return reply{}, d.Err()
	}
	for _, v := range args.Values {
		clean, err := store.CleanEntry(v.Name)
		if err != nil {
			return reply{}, misuse(err)
		}
		if args.Mailbox == "" && clean == entryAdmin {
			return no("NOPERM", "%s is for reading only", entryAdmin), nil
		}
	}
	at, err := s.place(args.Mailbox)
	if err != nil {
		return reply{}, err
	}
	var mod mail.ModSeq
	err = at.acct.Update(s.ctx, func(tx *store.Tx) error {
		box, err := at.annotated(tx.Mailbox)
		if err != nil {
			return err
		}
		mod = tx.ModSeq()
		for _, v := range args.Values {
			if err := s.setEntry(tx, &box, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	if s.meta != nil && at.prefix == "" {
		s.meta.own[mod] = true
	}
	return ok("SETMETADATA done"), nil
}

func (s *session) setEntry(tx *store.Tx, box *store.Mailbox, v imap.EntryValue) error {
	if box.ID != 0 && strings.EqualFold(v.Name, entrySpecialUse) {
		return setSpecialUse(tx, box, v.Value)
	}
	err := tx.SetEntry(box.ID, s.acct.ID(), v.Name, v.Value)
	if fault.Is(err, fault.Limited) {
		return coded("METADATA TOOMANY", err)
	}
	return err
}

// setSpecialUse makes /private/specialuse the role of a mailbox (RFC 6154, 5.4).
func setSpecialUse(tx *store.Tx, box *store.Mailbox, value []byte) error {
	role := mail.Role("")
	if value != nil {
		if role = mail.SpecialUse(string(value)); role == "" {
			return coded("USEATTR", fault.New(fault.Unsupported, "there is no such special use"))
		}
	}
	if box.Role == mail.RoleInbox {
		return fault.New(fault.Denied, "INBOX has a use already")
	}
	return tx.SetRole(box.ID, role)
}

// metaWatch is what a session has been told of annotations.
type metaWatch struct {
	generation uint64
	since      mail.ModSeq
	server     bool // ENABLE METADATA-SERVER, or METADATA: tell of the server's
	boxes      bool // ENABLE METADATA: and of those of mailboxes
	own        map[mail.ModSeq]bool
}

// enableMetadata begins to tell of annotations that others change (RFC 5464, 4.1).
func (s *session) enableMetadata(word string) {
	s.watchMetadata()
	if s.meta != nil {
		s.meta.server, s.meta.boxes = true, s.meta.boxes || word == "METADATA"
	}
}

// watchEntries watches annotations if NOTIFY or ENABLE wants it.
func (s *session) watchEntries() {
	switch n := s.notify; {
	case n != nil && n.events&(imap.NotifyMailboxMetadata|imap.NotifyServerMetadata) != 0:
		s.watchMetadata()
	case s.meta != nil && !s.meta.server:
		s.meta = nil
	}
}

// watchMetadata begins to look for annotations that others change.
func (s *session) watchMetadata() {
	if s.meta != nil {
		return
	}
	m := &metaWatch{own: map[mail.ModSeq]bool{}, generation: s.acct.Generation()}
	err := s.acct.View(s.ctx, func(snap *store.Snapshot) error {
		m.since = snap.ModSeq()
		return nil
	})
	if err != nil {
		s.c.Log().Error("annotations cannot be watched", "err", err)
		return
	}
	s.meta = m
}

// errOthersBox passes over a mailbox that is gone.
var errOthersBox = errors.New("no such mailbox")

// tellMetadata tells which annotations others have changed: their names, without the
// values (RFC 5464, 4.4.2).
func (s *session) tellMetadata() error {
	m := s.meta
	if m == nil || m.generation == s.acct.Generation() {
		return nil
	}
	generation, start := s.acct.Generation(), s.enc.Len()
	var upTo mail.ModSeq
	err := s.acct.View(s.ctx, func(snap *store.Snapshot) error {
		s.enc.Truncate(start)
		found, now, err := snap.MetadataChanges(s.acct.ID(), m.since)
		if err != nil {
			return err
		}
		upTo = now
		for _, id := range slices.Sorted(maps.Keys(found)) {
			if err := s.tellChangedEntries(snap, id, found[id]); err != nil && !errors.Is(err, errOthersBox) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.enc.Truncate(start)
		s.c.Log().Error("changes of annotations are told later", "err", err)
		return nil
	}
	m.generation, m.since = generation, upTo
	clear(m.own)
	return s.flushFull()
}

func (s *session) tellChangedEntries(snap *store.Snapshot, id mail.MailboxID, list []store.Entry) error {
	list = slices.DeleteFunc(list, func(e store.Entry) bool { return s.meta.own[e.ModSeq] })
	if len(list) == 0 {
		return nil
	}
	var box store.Mailbox
	of, wanted := (*store.Mailbox)(nil), s.meta.server
	if id != 0 {
		var err error
		if box, err = snap.MailboxByID(id); err != nil {
			return errOthersBox
		}
		of, wanted = &box, s.meta.boxes
	}
	if !wanted {
		var err error
		if wanted, err = s.wantsEntries(snap, of); !wanted {
			return err
		}
	}
	s.enc.Raw("* METADATA ").Mailbox(box.Name)
	for _, e := range list {
		s.enc.SP().AString(e.Name)
	}
	s.enc.CRLF()
	return nil
}
