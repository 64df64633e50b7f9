package report

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
	"github.com/martlet-mail/martlet/internal/report/aggregate"
	"github.com/martlet-mail/martlet/internal/report/tlsrpt"
)

var (
	keptRow = aggregate.Record{
		Source: netip.MustParseAddr("192.0.2.1"), Disposition: "none", DKIM: true, HeaderFrom: "a.test", EnvelopeFrom: "b.test",
		Reasons: []aggregate.Reason{{Type: "other", Comment: "x"}}, DKIMResults: []aggregate.Result{{Domain: "a.test", Selector: "s", Result: "pass"}},
		SPFResults: []aggregate.Result{{Domain: "b.test", Scope: "mfrom", Result: "fail"}},
	}
	keptPolicy  = tlsrpt.Policy{Type: "sts", Domain: "a.test", Strings: []string{"version: STSv1"}, Hosts: []string{"*.a.test"}}
	keptFailure = tlsrpt.Failure{Result: "certificate-expired", Sending: "192.0.2.1", Host: "mx.a.test", Receiving: "192.0.2.2", Reason: "r"}
	keptOwed    = owed{Policy: "v=DMARC1; p=none", Rows: 3, Left: 1, Attempts: 2, Next: 1772582400000}
	keptSent    = Sent{At: time.UnixMilli(1772582400000).UTC(), State: Delivered, To: []string{"mailto:r@a.test"}, Reason: "w", ID: "i@h", Rows: 2, Count: 9}
	keptReport  = Received{
		Kind: DMARC, Domain: "a.test", Begin: time.Unix(1772582400, 0).UTC(), End: time.Unix(1772668799, 0).UTC(), Arrived: time.Unix(1772700000, 0).UTC(),
		Reporter: "big.test", Verified: true, Organization: "Big", Email: "r@big.test", ID: "1", More: 4,
		Aggregate: &aggregate.Report{Policy: aggregate.Policy{Domain: "a.test", Policy: "none", DKIM: "r", Testing: true}},
	}
)

// The forms that lie on disks are read as they were written: these bytes never change.
func TestOldForms(t *testing.T) {
	for _, c := range []struct {
		what, want string
		got        []byte
	}{
		{"owed", owedForm, keptOwed.encode()},
		{"count of a message", countForm, encodeCount(7, string(encodeRecord(keptRow)))},
		{"count of a session", sessionForm, encodeCount(8, string(encodeSession(keptPolicy, keptFailure)))},
		{"sent", sentForm, keptSent.encode()},
		{"received", receivedForm, keptReport.encode(1)},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s is written as\n%s\nand was\n%s", c.what, got, c.want)
		}
	}
	old := func(s string) []byte { b, _ := hex.DecodeString(s); return b }
	if o, err := decodeOwed(old(owedForm)); err != nil || o != keptOwed {
		t.Errorf("%+v %v", o, err)
	}
	if n, row, err := decodeCount(old(countForm)); err != nil || n != 7 {
		t.Error(n, err)
	} else if r, err := decodeRecord(row); err != nil || fmt.Sprint(r) != fmt.Sprint(keptRow) {
		t.Errorf("%+v %v", r, err)
	}
	if n, row, err := decodeCount(old(sessionForm)); err != nil || n != 8 {
		t.Error(n, err)
	} else if p, f, err := decodeSession(row); err != nil || fmt.Sprint(p, f) != fmt.Sprint(keptPolicy, keptFailure) {
		t.Errorf("%+v %+v %v", p, f, err)
	}
	if s, err := decodeSent(old(sentForm)); err != nil || fmt.Sprint(s.At, s.State, s.To, s.Reason, s.ID, s.Rows, s.Count) != fmt.Sprint(keptSent.At, keptSent.State, keptSent.To, keptSent.Reason, keptSent.ID, keptSent.Rows, keptSent.Count) {
		t.Errorf("%+v %v", s, err)
	}
	if r, err := decodeReceived(keptReport.key(famReport), old(receivedForm)); err != nil || r.Reporter != "big.test" || r.More != 4 || !r.Verified || r.Domain != "a.test" || r.Aggregate.Policy != keptReport.Aggregate.Policy || !r.End.Equal(keptReport.End) {
		t.Errorf("%+v %v", r, err)
	}
	// A piece of a report: in version 1 each row has its policy, in version 2 each that differs.
	for _, c := range []struct {
		form string
		rows int
	}{{piece1Form, 2}, {piece2Form, 3}} {
		rows, err := readPiece(nil, TLS, old(c.form))
		if err != nil || len(rows) != c.rows {
			t.Fatal(len(rows), err)
		}
		for i, one := range rows {
			if want := []tlsrpt.Failure{{}, keptFailure, {Result: "validation-failure"}}[i]; fmt.Sprint(one.policy, one.failure) != fmt.Sprint(keptPolicy, want) {
				t.Errorf("row %d: %+v %+v", i, one.policy, one.failure)
			}
		}
	}
	if got := hex.EncodeToString(keptTLS().pieces()[0]); got != piece2Form {
		t.Errorf("a piece is written as\n%s", got)
	}
	other := record.Seal(version+1, record.Enc("x"))
	if _, err := decodeOwed(other); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a later version: %v", err)
	}
}

func keptTLS() *Received {
	p := keptPolicy
	p.Successes, p.Failed, p.Failures = 5, 9, []tlsrpt.Failure{keptFailure}
	p.Failures[0].Sessions = 8
	return &Received{Kind: TLS, Verified: true, TLS: &tlsrpt.Report{Policies: []tlsrpt.Policy{p}}}
}

// What is kept of a report is bounded, and what is made on the way to it: rows are short, and
// are made only as far as they are kept.
func TestPiecesAreBounded(t *testing.T) {
	p := tlsrpt.Policy{Type: "sts", Domain: "a.test", Strings: slices.Repeat([]string{strings.Repeat("x", 200)}, 50)}
	p.Hosts, p.Failures = p.Strings, slices.Repeat([]tlsrpt.Failure{{Result: "x", Sessions: 1}}, 20_000)
	long := slices.Repeat([]aggregate.Record{{Count: 1, Reasons: []aggregate.Reason{{Comment: strings.Repeat("x", 1000)}}}}, 20_000)
	for _, c := range []struct {
		name       string
		r          Received
		kept, size int
	}{
		{"TLS that nobody vouches for", Received{Kind: TLS, TLS: &tlsrpt.Report{Policies: []tlsrpt.Policy{p}}}, unverifieds, 30 << 10},
		{"TLS", Received{Kind: TLS, Verified: true, TLS: &tlsrpt.Report{Policies: []tlsrpt.Policy{p}}}, 20_001, 500 << 10},
		{"policies", Received{Kind: TLS, Verified: true, TLS: &tlsrpt.Report{Policies: slices.Repeat([]tlsrpt.Policy{{Type: "sts", Strings: p.Strings}}, 20_000)}}, 0, reportBytes + 200<<10},
		{"DMARC", Received{Kind: DMARC, Verified: true, Aggregate: &aggregate.Report{Records: long}}, 0, reportBytes + 200<<10},
	} {
		all := 0
		for range c.r.rows() {
			all++
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		list := c.r.pieces()
		runtime.ReadMemStats(&after)
		var rows []row
		size := 0
		for _, one := range list {
			size += len(one)
			var err error
			if rows, err = readPiece(rows, c.r.Kind, one); err != nil {
				t.Fatal(err)
			}
		}
		if len(rows)+c.r.More != all || len(rows) == 0 || c.kept > 0 && len(rows) != c.kept {
			t.Errorf("%s: %d of %d rows are kept, %d are not", c.name, len(rows), all, c.r.More)
		}
		if made := int(after.TotalAlloc - before.TotalAlloc); size > c.size || made > 16*c.size {
			t.Errorf("%s: %d KB are kept, and %d KB were made for them", c.name, size>>10, made>>10)
		}
	}
}

const (
	owedForm     = "0110763d444d415243313b20703d6e6f6e6503010280c0a7e2966797f3103f"
	countForm    = "010704c0000201046e6f6e65010001056f74686572017806612e7465737406622e74657374000106612e746573740173000470617373000106622e7465737400056d66726f6d046661696c007fc03bce"
	sessionForm  = "01080373747306612e74657374010e76657273696f6e3a20535453763101082a2e612e746573741363657274696669636174652d65787069726564093139322e302e322e31096d782e612e7465737400093139322e302e322e3200017240599fa8"
	sentForm     = "0180c0a7e296670473656e740177036940680209010f6d61696c746f3a7240612e7465737417b62f6e"
	piece1Form   = "0127050373747306612e74657374010e76657273696f6e3a20535453763101082a2e612e74657374005c080373747306612e74657374010e76657273696f6e3a20535453763101082a2e612e746573741363657274696669636174652d65787069726564093139322e302e322e31096d782e612e7465737400093139322e302e322e32000172767f072f"
	piece2Form   = "0227050373747306612e74657374010e76657273696f6e3a20535453763101082a2e612e74657374003b08000000001363657274696669636174652d65787069726564093139322e302e322e31096d782e612e7465737400093139322e302e322e320001721e01000000001276616c69646174696f6e2d6661696c75726500000000000007ba78d3"
	receivedForm = "0180d8bb9a0dfe9dc69a0dc085ca9a0d086269672e7465737401034269670a72406269672e7465737401310401046e6f6e65000001720001729382b3"
)

// FuzzKept: what is read of the engine is written as the same, or refused as damaged.
func FuzzKept(f *testing.F) {
	for kind, b := range [][]byte{keptOwed.encode(), encodeCount(7, string(encodeRecord(keptRow))), encodeCount(8, string(encodeSession(keptPolicy, keptFailure))), keptSent.encode(), keptReport.encode(1)} {
		_, payload, _ := record.Open(b)
		f.Add(byte(kind), payload)
	}
	f.Fuzz(func(t *testing.T, kind byte, payload []byte) {
		b := record.Seal(version, payload)
		again := b
		var err error
		switch kind % 5 {
		case 0:
			var o owed
			if o, err = decodeOwed(b); err == nil {
				again = o.encode()
				o, _ = decodeOwed(again)
				again = o.encode()
				b = again
			}
		case 1:
			var r aggregate.Record
			if r, err = decodeRecord(payload); err == nil {
				b = encodeRecord(r)
				r, err = decodeRecord(b)
				again = encodeRecord(r)
			}
		case 2:
			var p tlsrpt.Policy
			var x tlsrpt.Failure
			if p, x, err = decodeSession(payload); err == nil {
				b = encodeSession(p, x)
				p, x, err = decodeSession(b)
				again = encodeSession(p, x)
			}
		case 3:
			var s Sent
			if s, err = decodeSent(b); err == nil {
				b = s.encode()
				s, err = decodeSent(b)
				again = s.encode()
			}
		case 4:
			var r Received
			if r, err = decodeReceived(keptReport.key(famReport), b); err == nil {
				b = r.encode(1)
				r, err = decodeReceived(keptReport.key(famReport), b)
				again = r.encode(1)
			}
		}
		if err != nil && !fault.Is(err, fault.Corrupt) {
			t.Fatal(err)
		}
		if !bytes.Equal(b, again) {
			t.Fatalf("\n%x\n%x", b, again)
		}
	})
}
