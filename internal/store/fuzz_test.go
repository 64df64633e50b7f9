package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/text/unicode/norm"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/test/memory"
)

// form is one form of record: how it is read, and written again from what was read.
type form struct {
	kinds []byte
	seeds [][]byte // records
	// again returns all that a reader sees in a record, in words, and the record that
	// would be written of it; nil if the product writes no such record by itself.
	again func(record []byte) (says string, written []byte, err error)
}

// one is an engine with one record.
type one struct{ value []byte }

func (o *one) Get([]byte) ([]byte, bool, error) { return o.value, true, nil }
func (o *one) Scan(from, _ []byte, _ bool, fn func(key, value []byte) bool) error {
	fn(from, o.value)
	return nil
}
func (o *one) Put(_, value []byte) error     { o.value = value; return nil }
func (o *one) Delete([]byte) error           { o.value = nil; return nil }
func (o *one) DeleteRange(_, _ []byte) error { return nil }
func (o *one) snapshot() *Snapshot {
	return &Snapshot{r: o, account: &Account{accountState: &accountState{}}}
}
func reader(b []byte) *Snapshot                { return (&one{b}).snapshot() }
func numbers(kind byte, list ...uint64) []byte { return seal(kind, varints(list...)) }

func varints(list ...uint64) (e enc) {
	for _, n := range list {
		e.U(n)
	}
	return e
}

func (p *page) text() string {
	var b bytes.Buffer
	for row, n := 0, p.len(); row < n; row++ {
		var m Message
		p.fill(&m, row)
		fmt.Fprintf(&b, "%+v\n", m)
	}
	return fmt.Sprintf("%x\n%s", p.present, &b)
}

func (d *marksDraft) text() string {
	var b bytes.Buffer
	for slot := range sheetSize {
		if d.has(slot) {
			var m Message
			d.fill(&m, slot)
			fmt.Fprintf(&b, "%d %v %q %d\n", slot, m.Flags, m.Keywords, m.ModSeq)
		}
	}
	return b.String()
}

// text is the same as that of the draft if it says the same.
func (k *marks) text() string {
	var b bytes.Buffer
	for slot := range sheetSize {
		if row, ok := k.row(mail.UID(slot)); ok {
			m := k.marking(row)
			fmt.Fprintf(&b, "%d %v %q %d\n", slot, m.flags, m.keywords, k.mods.at(row))
		}
	}
	return b.String()
}

func (k *Keys) text() string {
	refs, err := k.AppendReferences(nil)
	return fmt.Sprintf("%q %q %v %v %d %d %q %q %q %q %q %v %d %v %v", k.Subject, k.Base, k.Reply, k.Dated, k.Date, k.zone,
		k.From, k.To, k.Cc, k.DisplayFrom, k.DisplayTo, k.Named, k.ID, refs, err)
}

func (f *Facts) text() string {
	return fmt.Sprint(f.home, f.Size, f.HeaderSize, f.head, f.Body, f.Envelope, f.BodyStructure, f.parts, f.preview, f.attachment)
}

// forms are all the forms of records that docs/schema.md has of the store, by name.
func forms(tb testing.TB) map[string]form {
	tb.Helper()
	draft := &pageDraft{}
	for uid := mail.UID(3); uid < 40; uid += 5 {
		draft.insert(&Message{UID: uid, ID: mail.MessageID(uid * 7), Thread: mail.ThreadID(uid), Size: 1 << uid, Internal: -int64(uid), Saved: 5})
	}
	var marked marksDraft
	for slot := 60; slot < 400; slot += 3 {
		marked.set(slot, marking{mail.Flags(slot / 64), KeywordSet("\x05")}, mail.ModSeq(slot/9))
	}
	whole := varints(5)
	for range 6 {
		whole.U(4)
		whole.U(6)
	}
	whole.Raw(1, 2, 1)
	whole.Str("\x01", "")
	box := Mailbox{ID: 3, Name: "INBOX", UIDValidity: 1, UIDNext: 9, HighestModSeq: 44, Messages: 2, Bytes: 900, Keywords: []string{"$x"}}
	shared := box
	shared.Grants, shared.guests = []Grant{{Who: 7, Rights: mail.RightLookup}}, 1
	noted := shared
	noted.notes, noted.noteBytes = 2, 30
	stamped := noted
	stamped.stamp = 77
	account := accountRecord{modSeq: 9, nextMailbox: 4, validity: 7, quota: Quota{1 << 30, 0}}
	keeping := account
	keeping.kept = 8
	keys := Keys{Subject: []byte("Re: a"), Base: []byte("a"), Reply: true, Dated: true, Date: 5, Named: true, ID: 9, From: []byte("a"),
		refs: append([]byte{1}, make([]byte, 8)...)}
	old := varints(3, 4, 200, 100, 100)
	old.Raw(make([]byte, 32)...)
	old.Str("(env)", "(structure)", "")
	lean := slices.Clone(old)
	lean.Str("preview")
	lean.Bool(true)
	old.Str("Re: a", "a")
	old.Bool(true, true)
	old.I(5)
	old.I(3600)
	old.Str("a", "b", "", "A", "B", "id@x")
	old.U(1)
	old.U(1 << 60)
	old.Str("preview")
	old.Bool(false)
	changes := Changes{Arrived: mail.UIDSet{{From: 1, To: 5}}, Expunged: mail.SetOf(3)}
	var words seenChunk
	words.set(70, true)
	lost := lostMailbox{"Old", mail.RoleSent, true, 77}
	var doomed enc
	doomed.Bytes(box.encode())
	entry, gone, note := Entry{ModSeq: 4, Value: []byte("v")}, Entry{ModSeq: 5, gone: true}, Note{ModSeq: 4, Value: []byte("v")}
	metaAt, noteAt := metaKey(3, 0, "/shared/comment"), noteKey(3, 4, 0, "/comment")
	p, err := newPacker()
	if err != nil {
		tb.Fatal(err)
	}
	packed := func(kind byte, e *zstd.Encoder, d *zstd.Decoder) form {
		return form{[]byte{kind}, [][]byte{sealPlain(kind, []byte("Subject: x\r\n\r\n")), seal(kind, pack(e, nil, []byte(typicalHeader)))},
			func(b []byte) (string, []byte, error) {
				payload, err := unseal(kind, b)
				if err != nil {
					return "", nil, err
				}
				out, err := unpack(d, nil, payload)
				return string(out), seal(kind, pack(e, nil, out)), err
			}}
	}
	store := &Store{pack: p}
	parcel := &Parcel{store: store, head: []byte(typicalHeader), bodySize: 3, small: sealPlain(recBody, []byte("abc"))}
	named := &Parcel{store: store, head: []byte("a: b\r\n\r\n"), bodySize: 9, sum: mail.BlobRef{1}}
	var number enc
	number.I(-7)
	return map[string]form{
		"page": {[]byte{recRows, recPage}, [][]byte{draft.encode(), seal(recPage, whole)}, func(b []byte) (string, []byte, error) {
			p, err := decodePage(b)
			if err != nil {
				return "", nil, err
			}
			return p.text(), p.draft().encode(), nil
		}},
		"marks": {[]byte{recMarks}, [][]byte{marked.encode()}, func(b []byte) (string, []byte, error) {
			var d marksDraft
			if err := d.decode(b); err != nil {
				return "", nil, err
			}
			if packed := d.marks(); packed.text() != d.text() || packed.draft().text() != d.text() {
				return "", nil, fmt.Errorf("packed they say %s, not %s", packed.text(), d.text())
			}
			return d.text(), d.encode(), nil
		}},
		"facts": {[]byte{recLeanFacts, recFacts}, [][]byte{seal(recLeanFacts, lean), seal(recFacts, old)}, func(b []byte) (string, []byte, error) {
			f, err := decodeFacts(b)
			if err != nil {
				return "", nil, err
			}
			if _, err := f.Parts(); err != nil && !fault.Is(err, fault.Corrupt) {
				return "", nil, err
			}
			if body, message, err := BodyOf(engine.Key(famFacts, 1), b); err != nil || !message || body != f.Body {
				return "", nil, fmt.Errorf("a backup reads body %x (%v, %v), not %x", body, message, err, f.Body)
			}
			shared := f.shared
			if f.keys != nil {
				if shared, _, err = reader(nil).sharedFacts(1, &f); err != nil {
					return "", nil, err
				}
				if f.preview, f.attachment, err = f.Preview(); err != nil {
					return "", nil, err
				}
			}
			return f.text(), factsRecord(f.home, shared), nil
		}},
		"keys": {[]byte{recKeys}, [][]byte{keys.encode()}, func(b []byte) (string, []byte, error) {
			var k Keys
			err := k.decode(b)
			return k.text(), k.encode(), err
		}},
		"keys of old facts": {[]byte{recFacts}, [][]byte{seal(recFacts, old)}, func(b []byte) (string, []byte, error) {
			f, err := decodeFacts(b)
			if err != nil {
				return "", nil, err
			}
			var k, lean Keys
			if err := k.ofFacts(&f); err != nil {
				return "", nil, err
			}
			if err := lean.decode(k.encode()); err != nil || lean.text() != k.text() {
				return "", nil, fmt.Errorf("as a record of keys: %s, not %s, %v", lean.text(), k.text(), err)
			}
			return k.text(), nil, nil
		}},
		"log": {[]byte{recLog, recStampedLog}, [][]byte{changes.encode(0), changes.encode(5)}, func(b []byte) (string, []byte, error) {
			var g gathering
			stamp, _, _ := openLog(b)
			if err := g.add(b); err != nil {
				return "", nil, err
			}
			c := Changes{Arrived: ordered(g.sets[0]), Changed: ordered(g.sets[1]), Expunged: ordered(g.sets[2])}
			return fmt.Sprint(stamp, c), c.encode(stamp), nil
		}},
		"account": {[]byte{recAccount, recKeepingAccount}, [][]byte{account.encode(), keeping.encode()}, func(b []byte) (string, []byte, error) {
			a, err := decodeAccount(b)
			return fmt.Sprint(a), a.encode(), err
		}},
		"mailbox": {[]byte{recMailbox, recSharedMailbox, recNotedMailbox, recStampedMailbox},
			[][]byte{box.encode(), shared.encode(), noted.encode(), stamped.encode()}, func(b []byte) (string, []byte, error) {
				m, err := decodeMailbox(b)
				return fmt.Sprintf("%+v", m), m.encode(), err
			}},
		"mailbox that is kept": {[]byte{recKeptDoomed}, [][]byte{seal(recKeptDoomed, doomed)}, func(b []byte) (string, []byte, error) {
			m, err := decodeKeptDoomed(b)
			var e enc
			e.Bytes(m.encode())
			return fmt.Sprintf("%+v", m), seal(recKeptDoomed, e), err
		}},
		"places": {[]byte{recPlaces}, [][]byte{numbers(recPlaces, 2, 1, 5, 3, 7)}, func(b []byte) (string, []byte, error) {
			list, err := decodePlaces(b)
			if err != nil {
				return "", nil, err
			}
			var o one
			err = (&Tx{w: &o}).putPlaces(1, list) // in order
			return fmt.Sprint(list), o.value, err
		}},
		"seen": {[]byte{recSeen}, [][]byte{words.encode()}, func(b []byte) (string, []byte, error) {
			c, err := decodeSeen(b)
			if err != nil {
				return "", nil, err
			}
			return fmt.Sprint(*c), c.encode(), nil
		}},
		"guest": {[]byte{recGuest}, [][]byte{numbers(recGuest, 9)}, func(b []byte) (string, []byte, error) {
			n, _, err := reader(b).seenCount(1, 2)
			return fmt.Sprint(n), numbers(recGuest, uint64(n)), err
		}},
		"deleted mailbox": {[]byte{recLost}, [][]byte{lost.encode()}, func(b []byte) (string, []byte, error) {
			l, err := decodeLost(b)
			return fmt.Sprintf("%+v", l), l.encode(), err
		}},
		"origin": {[]byte{recOrigin}, [][]byte{numbers(recOrigin, 3, 9)}, func(b []byte) (string, []byte, error) {
			at, err := decodeOrigin(b)
			return fmt.Sprint(at), numbers(recOrigin, uint64(at.box), uint64(at.uid)), err
		}},
		"deleted draft": {[]byte{recDraft}, [][]byte{numbers(recDraft, 3, 9)}, func(b []byte) (string, []byte, error) {
			uid, id, err := reader(b).keptDraft(1)
			return fmt.Sprint(uid, id), numbers(recDraft, uint64(uid), uint64(id)), err
		}},
		"name": {[]byte{recName}, [][]byte{numbers(recName, 9)}, func(b []byte) (string, []byte, error) {
			id, _, err := reader(b).lookup("x")
			return fmt.Sprint(id), numbers(recName, uint64(id)), err
		}},
		"thread": {[]byte{recThread}, [][]byte{numbers(recThread, 9)}, func(b []byte) (string, []byte, error) {
			id, err := (&Tx{w: &one{b}}).threadOf(1)
			return fmt.Sprint(id), numbers(recThread, uint64(id)), err
		}},
		"URL key": {[]byte{recURLKey}, [][]byte{seal(recURLKey, make([]byte, URLKeySize))}, func(b []byte) (string, []byte, error) {
			key, err := reader(b).URLKey(1, 2)
			return string(key), seal(recURLKey, key), err
		}},
		"size of annotations": {[]byte{recMetaSize}, [][]byte{seal(recMetaSize, number)}, func(b []byte) (string, []byte, error) {
			n, err := reader(b).metadataSize()
			var e enc
			e.I(n)
			return fmt.Sprint(n), seal(recMetaSize, e), err
		}},
		"annotation": {[]byte{recMeta}, [][]byte{entry.encode(), gone.encode()}, func(b []byte) (string, []byte, error) {
			e, err := decodeEntry(metaAt, b)
			return fmt.Sprintf("%+v", e), e.encode(), err
		}},
		"annotation of a message": {[]byte{recNote}, [][]byte{note.encode()}, func(b []byte) (string, []byte, error) {
			n, reader, err := decodeNote(noteAt, b)
			return fmt.Sprintf("%d %+v", reader, n), n.encode(), err
		}},
		"header":     packed(recHeader, p.header, p.unheader),
		"small body": packed(recBody, p.body, p.unbody),
		"parcel": {[]byte{recParcel}, [][]byte{parcel.Encode(), named.Encode()}, func(b []byte) (string, []byte, error) {
			q, err := store.unpackParcel(b)
			if err != nil {
				return "", nil, err
			}
			if ref, err := ParcelBlob(b); err != nil || ref != q.sum {
				return "", nil, fmt.Errorf("the queue reads blob %x, %v", ref, err)
			}
			return fmt.Sprintf("%x %d %q %x", q.sum, q.bodySize, q.head, q.small), q.Encode(), nil
		}},
	}
}

// mostUnpacked is what a decompressor may give.
const mostUnpacked = 8 << 20

// FuzzRecords: what is in a record of any form, and has the right checksum, is refused as
// corrupt or is read, written and read again as the same. It asks for no more memory than
// its length is worth, and no form takes a record of another kind.
func FuzzRecords(f *testing.F) {
	all := forms(f)
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		for _, r := range all[name].seeds {
			k := slices.Index(all[name].kinds, r[0])
			if k < 0 {
				f.Fatalf("a seed of %s has kind %d", name, r[0])
			}
			if _, _, err := all[name].again(r); err != nil {
				f.Fatalf("a seed of %s: %v", name, err)
			}
			f.Add(uint8(i), uint8(k), r[1:len(r)-4])
		}
	}
	f.Fuzz(func(t *testing.T, which, kind uint8, payload []byte) {
		if len(payload) > engine.MaxValue {
			return
		}
		name := names[int(which)%len(names)]
		fm := all[name]
		b := seal(fm.kinds[int(kind)%len(fm.kinds)], payload)
		var says string
		var written []byte
		var err error
		limit := 400*len(b) + 64<<10
		if slices.Contains([]string{"header", "small body", "parcel"}, name) {
			limit += 8 * mostUnpacked
		}
		memory.Bounded(t, limit, func() { says, written, err = fm.again(b) })
		if err != nil {
			if !fault.Is(err, fault.Corrupt) {
				t.Fatalf("%s: %v", name, err)
			}
		} else if written != nil && len(says) < 1<<20 {
			again, more, err := fm.again(written)
			if err != nil || again != says || !bytes.Equal(more, written) {
				t.Fatalf("%s says\n%s\nand after it was written anew (%v)\n%s", name, says, err, again)
			}
		}
		for _, other := range all {
			if !slices.Contains(other.kinds, b[0]) {
				if _, _, err := other.again(b); !fault.Is(err, fault.Corrupt) {
					t.Fatalf("a %s is taken for another record: %v", name, err)
				}
			}
		}
	})
}

// everywhere is a store of blobs that has the same under each name.
type everywhere struct {
	engine.Blobs
	blob []byte
}

func (e *everywhere) Open(_ context.Context, _ mail.BlobRef, off, n int64) (io.ReadCloser, error) {
	if off < 0 || off > int64(len(e.blob)) || n > int64(len(e.blob))-off {
		return nil, fault.New(fault.Invalid, "outside")
	}
	if n < 0 {
		n = int64(len(e.blob)) - off
	}
	return io.NopCloser(bytes.NewReader(e.blob[off : off+n])), nil
}

// sealedBody makes a body of chunks with right checksums, and of lengths that are mostly
// right.
func sealedBody(p *packer, version byte, size uint64, stored []byte, cut int) []byte {
	var kept [][]byte
	for len(stored) > 0 {
		n := min(cut, len(stored))
		kept = append(kept, binary.BigEndian.AppendUint32(stored[:n:n], record.Sum(stored[:n])))
		stored = stored[n:]
	}
	head := append(enc{version}, varints(size, uint64(len(kept)))...)
	for _, k := range kept {
		if version == bodyCut {
			raw, err := unpack(p.unbody, nil, k[:len(k)-4])
			if runs, _, bad := parseRuns(nil, k[1:len(k)-4]); k[0] == packedApart && bad == nil && len(runs) > 0 {
				raw, err = make([]byte, runs[0].coded()), nil
			}
			if err != nil || len(raw) == 0 {
				raw = make([]byte, 10)
			}
			head.U(uint64(len(raw)))
		}
		head.U(uint64(len(k)))
	}
	return append(binary.BigEndian.AppendUint32(head, record.Sum(head)), slices.Concat(kept...)...)
}

// FuzzBody: of a stored body, whatever it says, any range is what the whole has there, or
// the body is refused as corrupt; even one that names itself for what it needs.
func FuzzBody(f *testing.F) {
	p, err := newPacker()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(bodyVersion), uint64(4), []byte("\x00text"), uint16(99), uint16(1), uint16(2))
	f.Add(uint8(bodyCut), uint64(8), []byte("\x00text\x00more"), uint16(4), uint16(3), uint16(4))
	f.Add(uint8(1), uint64(4), []byte("\x01text"), uint16(99), uint16(0), uint16(4))
	file := wrapped(random(5, 600), 76, "\r\n")
	chunk := p.packBody(nil, []byte(file))
	f.Add(uint8(bodyVersion), uint64(len(file)), chunk, uint16(len(chunk)-1), uint16(50), uint16(300))
	apart := append(appendRuns([]byte{packedApart}, []run{{quads: 19, lines: 10}}), make([]byte, 32)...)
	f.Add(uint8(bodyCut), uint64(780), apart, uint16(len(apart)-1), uint16(0), uint16(100))
	f.Fuzz(func(t *testing.T, version uint8, size uint64, stored []byte, cut, off, n uint16) {
		blob := sealedBody(p, version, size, stored, int(cut)+1)
		for _, b := range [...][]byte{blob, stored} {
			read := func(off, n int64) (got []byte, err error) {
				memory.Bounded(t, 8*mostUnpacked, func() {
					var r io.ReadCloser
					if r, err = openBody(ctx, &everywhere{blob: b}, p, mail.BlobRef{}, off, n); err == nil {
						defer r.Close()
						got, err = io.ReadAll(r)
					}
				})
				if err != nil && !fault.Is(err, fault.Corrupt) {
					t.Fatal(err)
				}
				return got, err
			}
			whole, err := read(0, -1)
			part, err2 := read(int64(off), int64(n))
			if err != nil {
				continue // the range may lie in a chunk that is whole
			}
			if int(off)+int(n) > len(whole) {
				if err2 == nil {
					t.Fatalf("%d bytes from %d of %d", n, off, len(whole))
				}
			} else if err2 != nil || !bytes.Equal(part, whole[off:int(off)+int(n)]) {
				t.Fatalf("%d bytes from %d are %q, not %q, %v", n, off, part, whole[off:int(off)+int(n)], err2)
			}
		}
	})
}

// FuzzName: a mailbox name is refused, or has the one form that it is found by, which is as
// long and as deep as it may be and nothing of a path.
func FuzzName(f *testing.F) {
	for _, s := range []string{"INBOX", "inbox/x", "Entwu\u0308rfe", "a/b/", "a//b", "../x", "a/./b", "\x00", "a*", "\u2028", "Å", "ÅNGSTRÖM", "inboxes", strings.Repeat("a/", 70), "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := CleanName(s)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if again, err := CleanName(name); err != nil || again != name {
			t.Fatalf("%q is %q, and that %q, %v", s, name, again, err)
		}
		levels := strings.Split(name, Separator)
		for _, level := range levels {
			if level == "" || level == "." || level == ".." || strings.ContainsAny(level, "\x00\r\n\x7f*%") {
				t.Fatalf("%q has the level %q", name, level)
			}
		}
		if len(name) > MaxMailboxName || len(levels) > MaxMailboxDepth || strings.EqualFold(levels[0], "INBOX") && levels[0] != "INBOX" {
			t.Fatalf("%q is taken as %q", s, name)
		}
		for _, other := range []string{norm.NFD.String(s), norm.NFC.String(s), s + Separator} {
			if got, err := CleanName(other); err == nil && got != name {
				t.Fatalf("%q and %q are two mailboxes, %q and %q", s, other, name, got)
			}
		}
	})
}
