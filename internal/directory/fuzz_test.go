package directory

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
	"github.com/martlet-mail/martlet/test/memory"
)

// one is an engine with one record.
type one struct{ value []byte }

func (o one) Get([]byte) ([]byte, bool, error)                               { return o.value, true, nil }
func (o one) Scan(_, _ []byte, _ bool, _ func(key, value []byte) bool) error { return nil }

// FuzzRecords: what is in a record of any kind, and has the right checksum, is refused as
// corrupt or is read, written and read again as the same, in no more memory than its length
// is worth. No kind is taken for another.
func FuzzRecords(f *testing.F) {
	keys := map[string]sasl.Keys{sasl.ScramSHA256: {Iterations: 4096, Salt: []byte("s"), StoredKey: []byte("k"), ServerKey: []byte("v")}}
	for _, b := range [][]byte{
		(&accountRecord{address: mail.Address{Local: "a", Domain: "b"}, created: time.Unix(1, 0), hash: "x", scram: keys}).encode(),
		(&accountRecord{address: mail.Address{Local: "a", Domain: "b"}, created: time.Unix(1, 0), foreign: "{SHA}b+EBB60C2GpM+87U5kr1zSBlavQ="}).encode(),
		(&accountRecord{address: mail.Address{Local: "a", Domain: "b"}, created: time.Unix(1, 0), waiting: true}).encode(),
		entry{targets: []mail.Address{{Local: "a", Domain: "b"}}}.encode(),
		entry{account: 7}.encode(),
		seal(recAccountEntry, []byte{0}),
		domainRecord{name: "b.test", created: time.Unix(1, 0)}.encode(),
		meta{7, []byte("secret")}.encode(),
		signingRecord{SigningKey{Algorithm: RSA, State: KeyActive, Created: time.Unix(1, 0)}, []byte("key")}.encode(),
		encodeSettings(map[string]string{"sign": "no", "dmarc": "reject"}),
		encodePublished([]DNSRecord{{"example.org", "MX", "10 mx.example.org"}}),
	} {
		f.Add(b[0], b[1:len(b)-4])
	}
	address := mail.Address{Local: "a", Domain: "b"}
	forms := map[byte]func(r engine.Reader) (any, []byte, error){
		recDomain: func(r engine.Reader) (any, []byte, error) {
			d, _, err := getDomain(r, "b")
			return d, d.encode(), err
		},
		recAccountEntry: func(r engine.Reader) (any, []byte, error) {
			e, _, err := getEntry(r, address)
			return e, e.encode(), err
		},
		recAccount: func(r engine.Reader) (any, []byte, error) {
			a, err := getAccount(r, 7)
			if err != nil {
				return nil, nil, err
			}
			return *a, a.encode(), nil
		},
		recMeta: func(r engine.Reader) (any, []byte, error) {
			m, err := getMeta(r)
			return m, m.encode(), err
		},
		recSigning: func(r engine.Reader) (any, []byte, error) {
			_, d, _, err := get(r, nil, recSigning)
			if err != nil {
				return nil, nil, err
			}
			rec, err := decodeSigning(d)
			return rec, rec.encode(), err
		},
		recPublished: func(r engine.Reader) (any, []byte, error) {
			_, d, _, err := get(r, nil, recPublished)
			if err != nil {
				return nil, nil, err
			}
			all, err := decodePublished(d)
			return all, encodePublished(all), err
		},
		recSettings: func(r engine.Reader) (any, []byte, error) {
			stored, err := readSettings(r, "b")
			return stored, encodeSettings(stored), err
		},
	}
	forms[recAliasEntry] = forms[recAccountEntry]
	forms[recAccountElsewhere] = forms[recAccount]
	twins := map[byte]byte{recAccountEntry: recAliasEntry, recAliasEntry: recAccountEntry, recAccount: recAccountElsewhere, recAccountElsewhere: recAccount}
	f.Fuzz(func(t *testing.T, kind byte, payload []byte) {
		b := seal(kind, payload)
		for k, form := range forms {
			var is any
			var written []byte
			var err error
			memory.Bounded(t, 200*len(b), func() { is, written, err = form(one{b}) })
			own := k == kind || twins[k] == kind
			if err != nil || !own {
				if !fault.Is(err, fault.Corrupt) {
					t.Fatalf("kind %d read as %d: %v", kind, k, err)
				}
				continue
			}
			again, more, err := form(one{written})
			if err != nil || written[0] != kind || !reflect.DeepEqual(again, is) || !bytes.Equal(more, written) {
				t.Fatalf("%+v, written anew as kind %d %+v, %v", is, written[0], again, err)
			}
		}
	})
}

// FuzzPHC: the stored form of a password hash is refused, or its numbers are within bounds
// and written again it is the same.
func FuzzPHC(f *testing.F) {
	f.Add(encodePHC(Argon{MemoryKiB: 64, Passes: 1, Lanes: 1}, []byte("12345678"), make([]byte, 32)))
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=1$MTIzNDU2Nzg$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, phc string) {
		cost, salt, key, err := decodePHC(phc)
		if err != nil {
			if !fault.Is(err, fault.Corrupt) {
				t.Fatal(err)
			}
			return
		}
		if cost.MemoryKiB > maxArgonKiB || cost.Passes > 100 || len(salt)+len(key) > len(phc) {
			t.Fatalf("%+v", cost)
		}
		cost2, salt2, key2, err := decodePHC(encodePHC(cost, salt, key))
		if err != nil || cost2 != cost || !bytes.Equal(salt2, salt) || !bytes.Equal(key2, key) {
			t.Fatalf("%q: %+v, written anew %+v, %v", phc, cost, cost2, err)
		}
	})
}
