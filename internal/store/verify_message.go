package store

import (
	"crypto/sha256"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// mailbox checks one mailbox: pages against the record, messages against pages.
func (v *verifier) mailbox() {
	id, ok, err := v.snap.lookup(v.box.Name)
	if err != nil || !ok || id != v.box.ID {
		v.problem(0, "its name does not lead to it")
	}
	p, err := v.snap.load(v.box)
	if err != nil {
		v.problem(0, "%s", fault.Say(err))
		return
	}
	count := Mailbox{}
	for _, m := range p.Messages(All()) {
		count.count(m, +1)
		if m.UID >= v.box.UIDNext || m.ModSeq > v.box.HighestModSeq {
			v.problem(m.UID, "UID or modseq is higher than the mailbox has given out")
		}
		v.message(m)
		v.done.Messages++
		if v.progress != nil {
			v.progress(v.done)
		}
	}
	v.notes(p)
	b := &v.box
	if count.Messages != b.Messages || count.Unseen != b.Unseen || count.Deleted != b.Deleted || count.Bytes != b.Bytes {
		v.problem(0, "counts say %d messages, %d unseen, %d deleted, %d bytes; there are %d, %d, %d, %d",
			b.Messages, b.Unseen, b.Deleted, b.Bytes, count.Messages, count.Unseen, count.Deleted, count.Bytes)
	}
	if b.ID != v.snap.acct.kept {
		v.usage.Bytes += count.Bytes
		v.usage.Messages += int64(count.Messages)
	}
}

// message checks facts, header and body of a message; copies only once.
func (v *verifier) message(m Message) {
	first := v.seen[m.ID] == nil
	v.seen[m.ID] = append(v.seen[m.ID], place{v.box.ID, m.UID})
	if !first {
		return
	}
	f, err := v.snap.Facts(m.ID)
	if err != nil {
		v.problem(m.UID, "facts: %s", fault.Say(err))
		return
	}
	if f.Size != m.Size {
		v.problem(m.UID, "its size is %d by its facts and %d by its page", f.Size, m.Size)
	}
	if _, err := f.Parts(); err != nil {
		v.problem(m.UID, "%s", fault.Say(err))
	}
	if _, _, err := f.Preview(); err != nil {
		v.problem(m.UID, "%s", fault.Say(err))
	}
	v.keys(m)
	head, err := v.snap.Head(nil, m.ID)
	if err != nil || int64(len(head)) != f.head {
		v.problem(m.UID, "its header cannot be read or has the wrong length")
	}
	v.done.Bytes += f.Size
	v.body(m, &f)
}

func (v *verifier) keys(m Message) {
	k, err := v.snap.Keys(m.ID)
	if err == nil {
		_, err = k.AppendReferences(nil)
	}
	if err != nil {
		v.problem(m.UID, "%s", fault.Say(err))
	}
}

func (v *verifier) body(m Message, f *Facts) {
	want := f.Size - f.head
	if f.Body.IsZero() {
		v.smallBody(m, f, want)
		return
	}
	got, known := v.good[f.Body]
	if !known {
		v.done.Bodies++
		sum := sha256.New()
		r, err := openBody(v.ctx, v.store.eng.Blobs(), v.store.pack, f.Body, 0, -1)
		if err == nil {
			got, err = io.Copy(sum, r)
			r.Close()
		}
		if err != nil {
			v.problem(m.UID, "its body cannot be read: %s", fault.Say(err))
			return
		}
		if mail.BlobRef(sum.Sum(nil)) != f.Body {
			v.problem(m.UID, "its body is not the one that was stored")
			return
		}
		v.good[f.Body] = got
	}
	if got != want {
		v.problem(m.UID, "its body has %d bytes, not %d", got, want)
	}
}

// smallBody checks a body that is no blob.
func (v *verifier) smallBody(m Message, f *Facts, want int64) {
	got, err := v.snap.body(m.ID, f)
	if err == nil && want > 0 {
		v.done.Bodies++
		got.small, err = unpack(v.store.pack.unbody, nil, got.small)
	}
	switch {
	case err != nil:
		v.problem(m.UID, "its body cannot be read: %s", fault.Say(err))
	case int64(len(got.small)) != want:
		v.problem(m.UID, "its body has %d bytes, not %d", len(got.small), want)
	}
}
