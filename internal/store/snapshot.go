package store

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Snapshot is one account as of one moment. It is valid inside the View that made
// it and for one goroutine.
type Snapshot struct {
	account *Account
	r       engine.Reader
	acct    accountRecord
}

func newSnapshot(a *Account, r engine.Reader) (*Snapshot, error) {
	s := &Snapshot{account: a, r: r}
	v, ok, err := r.Get([]byte{famAccount})
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "no such account")
	}
	if err != nil {
		return nil, err
	}
	if s.acct, err = decodeAccount(v); err == nil && a.upon != nil {
		err = s.stillUpon(a.upon)
	}
	return s, err
}

// ModSeq returns the modseq of the account's last change.
func (s *Snapshot) ModSeq() mail.ModSeq { return s.acct.modSeq }

// Quota returns the account's allowance and what it uses.
func (s *Snapshot) Quota() (Quota, Usage) { return s.acct.quota, s.acct.usage }

// MailboxCount returns how many mailboxes the account has.
func (s *Snapshot) MailboxCount() int { return int(s.acct.mailboxes) }

// Mailboxes returns all mailboxes in order of name, INBOX first.
func (s *Snapshot) Mailboxes() ([]Mailbox, error) {
	list, err := s.mailboxes()
	for i := 0; err == nil && i < len(list); i++ {
		err = s.personal(&list[i])
	}
	return list, err
}

// mailboxes is Mailboxes as they are on record.
func (s *Snapshot) mailboxes() ([]Mailbox, error) {
	var list []Mailbox
	var bad error
	err := s.r.Scan([]byte{famMailbox}, []byte{famMailbox + 1}, false, func(_, v []byte) bool {
		var m Mailbox
		m, bad = decodeMailbox(v)
		list = append(list, m)
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	sortMailboxes(list)
	return list, err
}

func sortMailboxes(list []Mailbox) {
	slices.SortFunc(list, func(a, b Mailbox) int { return CompareNames(a.Name, b.Name) })
}

// CompareNames orders names of mailboxes: INBOX and what is below it first, and children
// right after their parent.
func CompareNames(a, b string) int {
	if x, y := isInbox(a), isInbox(b); x != y {
		if x {
			return -1
		}
		return 1
	}
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		switch {
		case x == y:
		case x == Separator[0]:
			return -1
		case y == Separator[0]:
			return 1
		default:
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(len(a), len(b))
}

func isInbox(name string) bool {
	rest, ok := strings.CutPrefix(name, "INBOX")
	return ok && (rest == "" || rest[0] == Separator[0])
}

// Mailbox returns the mailbox of a name. Faults: NotFound, Invalid.
func (s *Snapshot) Mailbox(name string) (Mailbox, error) {
	id, err := s.find(name)
	if err != nil {
		return Mailbox{}, err
	}
	return s.MailboxByID(id)
}

func (s *Snapshot) find(name string) (mail.MailboxID, error) {
	clean, err := CleanName(name)
	if err != nil {
		return 0, err
	}
	id, ok, err := s.lookup(clean)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "no such mailbox")
	}
	return id, err
}

func (s *Snapshot) lookup(clean string) (mail.MailboxID, bool, error) {
	v, ok, err := s.r.Get(engine.KeyString(famName, clean))
	if err != nil || !ok {
		return 0, false, err
	}
	p, err := unseal(recName, v)
	if err != nil {
		return 0, false, err
	}
	d := dec{Rest: p}
	return mail.MailboxID(d.U()), true, d.Err("name")
}

// MailboxByID returns a mailbox, whatever its name is now. Faults: NotFound.
func (s *Snapshot) MailboxByID(id mail.MailboxID) (Mailbox, error) {
	m, err := s.mailbox(id)
	if err == nil {
		err = s.personal(&m)
	}
	return m, err
}

// mailbox is MailboxByID as it is on record.
func (s *Snapshot) mailbox(id mail.MailboxID) (Mailbox, error) {
	v, ok, err := s.r.Get(engine.Key(famMailbox, uint64(id)))
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "the mailbox has been deleted")
	}
	if err != nil {
		return Mailbox{}, err
	}
	return decodeMailbox(v)
}

// Subscriptions returns the subscribed names in order, whether or not a mailbox has
// them.
func (s *Snapshot) Subscriptions() ([]string, error) {
	var names []string
	err := s.r.Scan([]byte{famSub}, []byte{famSub + 1}, false, func(k, _ []byte) bool {
		names = append(names, string(k[1:]))
		return true
	})
	return names, err
}

// Subscribed tells whether a name is subscribed, in its canonical form.
func (s *Snapshot) Subscribed(name string) (bool, error) {
	_, ok, err := s.r.Get(engine.KeyString(famSub, name))
	return ok, err
}

// HasChildren tells whether there is a mailbox below a name.
func (s *Snapshot) HasChildren(name string) (bool, error) {
	below := engine.KeyString(famName, name+Separator)
	found := false
	err := s.r.Scan(below, engine.After(below), false, func([]byte, []byte) bool {
		found = true
		return false
	})
	return found, err
}

// Message returns one row of a mailbox. Faults: NotFound.
func (s *Snapshot) Message(box mail.MailboxID, uid mail.UID) (Message, error) {
	var marks marksDraft
	m := Message{UID: uid}
	there, err := s.marks(box, sheetOf(uid), &marks)
	if err == nil && (!there || !marks.has(slotOf(uid))) {
		err = noMessage()
	}
	if err != nil {
		return Message{}, err
	}
	marks.fill(&m, slotOf(uid))
	p, err := s.page(box, pageOf(uid))
	if err != nil {
		return Message{}, err
	}
	if p == nil {
		return Message{}, noMessage()
	}
	row, ok := rowOf(p.present, uid)
	if !ok {
		return Message{}, noMessage()
	}
	p.fill(&m, row)
	if guest := s.account.guest(); guest != 0 {
		c, err := s.seenChunk(box, chunkOf(pageOf(uid)), guest)
		if err != nil {
			return Message{}, err
		}
		if m.Flags &^= mail.Seen; c.has(uid) {
			m.Flags |= mail.Seen
		}
	}
	return m, nil
}

func noMessage() error { return fault.New(fault.NotFound, "no such message") }

// Facts returns a message's facts. Faults: NotFound if no mailbox holds it any more.
func (s *Snapshot) Facts(id mail.MessageID) (Facts, error) {
	v, ok, err := s.getLong(famFacts, uint64(id))
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "no such message")
	}
	if err != nil {
		return Facts{}, err
	}
	return decodeFacts(v)
}

// Head returns the first bytes of a message: its whole top header, unless that is
// over 256 KB; then read it with Account.Open. It appends to dst.
func (s *Snapshot) Head(dst []byte, id mail.MessageID) ([]byte, error) {
	v, ok, err := s.getLong(famHeader, uint64(id))
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "no such message")
	}
	if err != nil {
		return dst, err
	}
	p, err := unseal(recHeader, v)
	if err != nil {
		return dst, err
	}
	return unpack(s.account.store.pack.unheader, dst, p)
}

// Places returns the mailboxes that hold a message now, with its UID in each.
func (s *Snapshot) Places(id mail.MessageID) (map[mail.MailboxID][]mail.UID, error) {
	list, err := s.places(id)
	if err != nil {
		return nil, err
	}
	out := map[mail.MailboxID][]mail.UID{}
	for _, p := range list {
		out[p.box] = append(out[p.box], p.uid)
	}
	return out, nil
}

// Changes returns what happened in a mailbox after a modseq.
func (s *Snapshot) Changes(box mail.MailboxID, since mail.ModSeq) (Changes, error) {
	m, err := s.MailboxByID(box)
	if err != nil {
		return Changes{}, err
	}
	return changes(s.r, &m, since)
}

// Long records. What is over longPiece is cut: the record of that key begins with
// recLong and the number of pieces, the pieces lie in famPiece.
const (
	longPiece      = 90 << 10
	recLong   byte = 0xff
)

func pieceKey(family byte, id, number uint64) []byte {
	return engine.Key(famPiece, uint64(family), id, number)
}

func (s *Snapshot) getLong(family byte, id uint64) ([]byte, bool, error) {
	v, ok, err := s.r.Get(engine.Key(family, id))
	if err != nil || !ok || len(v) == 0 || v[0] != recLong {
		return v, ok, err
	}
	n, _ := binary.Uvarint(v[1:])
	var whole []byte
	for i := range n {
		piece, ok, err := s.r.Get(pieceKey(family, id, i))
		if err != nil {
			return nil, false, err
		}
		if !ok {
			return nil, false, fault.New(fault.Corrupt, "a piece of a stored record is missing")
		}
		whole = append(whole, piece...)
	}
	return whole, true, nil
}
