package queue

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/test/memory"
)

// FuzzRecords: what is in a record, and has the right checksum, is refused as corrupt or
// is read, written and read again as the same, in no more memory than its length is worth.
func FuzzRecords(f *testing.F) {
	m := &message{env: envelope("a@b.test"), pieces: 1, recipients: 2, groups: 1, open: 1}
	r := &recipient{Recipient: mail.Recipient{Address: address("x@y.test"), Notify: 5, ORcpt: "rfc822;x"}, state: failed, owed: 1, result: greylist}
	g := &group{lane: "rexample.org", next: 7, attempts: 3, waiting: 1, reason: "x"}
	l := &lane{due: 4, notBefore: 9, fails: 2, reason: "y"}
	for _, v := range [][]byte{m.encode(), withFields().encode(), counts{3, 1}.encode(), r.encode(), g.encode(), l.encode(), encodeKeyRecord(5), encodeLook(-9)} {
		f.Add(v[1 : len(v)-4])
	}
	forms := map[string]func(b []byte) (any, []byte, error){
		"message": func(b []byte) (any, []byte, error) {
			m, err := decodeMessage(1, b)
			if err != nil {
				return nil, nil, err
			}
			return *m, m.encode(), nil
		},
		"recipient": func(b []byte) (any, []byte, error) {
			r, err := decodeRecipient(b)
			if err != nil {
				return nil, nil, err
			}
			return *r, r.encode(), nil
		},
		"group": func(b []byte) (any, []byte, error) {
			g, err := decodeGroup(b)
			if err != nil {
				return nil, nil, err
			}
			return *g, g.encode(), nil
		},
		"lane": func(b []byte) (any, []byte, error) {
			l, err := decodeLane(b)
			if err != nil {
				return nil, nil, err
			}
			return *l, l.encode(), nil
		},
		"counts": func(b []byte) (any, []byte, error) {
			c, err := decodeCounts(b)
			return c, c.encode(), err
		},
		"look": func(b []byte) (any, []byte, error) {
			at, err := decodeLook(b)
			return at, encodeLook(at), err
		},
		"key": func(b []byte) (any, []byte, error) {
			id, err := decodeKeyRecord(b)
			return id, encodeKeyRecord(id), err
		},
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		e := newEnc()
		e.Raw(payload...)
		for name, form := range forms {
			b := e.seal()
			if name == "message" || name == "lane" || name == "recipient" {
				b = record.Seal(messageVersion, payload)
			}
			var is any
			var written []byte
			var err error
			memory.Bounded(t, 100*len(b), func() { is, written, err = form(b) })
			if err != nil {
				if !fault.Is(err, fault.Corrupt) {
					t.Fatalf("%s: %v", name, err)
				}
				continue
			}
			again, more, err := form(written)
			if err != nil || !reflect.DeepEqual(again, is) || !bytes.Equal(more, written) {
				t.Fatalf("%s: %+v, written anew %+v, %v", name, is, again, err)
			}
			for n := range written { // cut short it is not a record
				if _, _, err := form(written[:n]); !fault.Is(err, fault.Corrupt) {
					t.Fatalf("%s is read from %d of its %d bytes: %v", name, n, len(written), err)
				}
			}
		}
	})
}
