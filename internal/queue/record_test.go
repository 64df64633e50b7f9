package queue

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// messageOfVersion1 is a record that a server without tagged fields wrote.
const messageOfVersion1 = "014d80a8a894956780d8a6b09867809086a2956780d8a6b0986782a8a89495670aa41305616c6963650c6d6172746c" +
	"65742e7465737405656e762b3112616c696365406d6172746c65742e746573740b636c69656e742e74657374093139322e302e322e370745534d" +
	"545053410101010101010120010000000000000000000000000000000000000000000000000000000000000201030202012f650e41"

func ofVersion1() *message {
	m := &message{
		id: 9, nonce: 77, created: 1772366400000, expires: 1772798400000, delayAt: 1772380800000, expiryAt: 1772798400000,
		reportAt: 1772366400001, heldAt: 5, env: envelope("alice@martlet.test"), road: Local, size: 1234,
		has8Bit: true, needsUTF8: true, pieces: 1, recipients: 3, groups: 2, open: 2, owed: 1,
	}
	m.env.EnvID, m.env.Login, m.env.Helo, m.env.Peer, m.env.Protocol = "env+1", "alice@martlet.test", "client.test", "192.0.2.7", "ESMTPSA"
	m.env.Ret, m.env.UTF8, m.env.Body8Bit, m.env.Binary = mail.RetFull, true, true, true
	m.blob[0], m.blob[31] = 1, 2
	return m
}

// TestOldMessageRecord: mail that was queued by an earlier version is read, and written
// anew it is the same message.
func TestOldMessageRecord(t *testing.T) {
	old, err := hex.DecodeString(messageOfVersion1)
	if err != nil {
		t.Fatal(err)
	}
	m, err := decodeMessage(9, old)
	if err != nil || !reflect.DeepEqual(m, ofVersion1()) {
		t.Fatalf("%+v, %v", m, err)
	}
	if m, err = decodeMessage(9, m.encode()); err != nil || !reflect.DeepEqual(m, ofVersion1()) {
		t.Fatalf("written anew: %+v, %v", m, err)
	}
	old[len(old)-9]++ // the control: one bit elsewhere is another record
	if _, err := decodeMessage(9, old); !fault.Is(err, fault.Corrupt) {
		t.Fatalf("a damaged record: %v", err)
	}
}

func withFields() *message {
	m := ofVersion1()
	m.env.RequireTLS, m.env.Priority, m.env.VERP, m.env.TLSOptional = true, -4, true, true
	m.env.Junk, m.env.Stays = true, true
	m.env.By = mail.DeliverBy{Mode: mail.ByReturn, Trace: true, At: time.UnixMilli(1772366500000)}
	m.env.ReleaseAt, m.env.Release = time.UnixMilli(1772366600000), "for;60"
	return m
}

// TestMessageFields: every field alone and all together come back; one that is not known
// or out of place is refused.
func TestMessageFields(t *testing.T) {
	all := withFields()
	alone := []*message{all}
	for n := range 9 {
		m := ofVersion1()
		switch n {
		case 0:
			m.env.RequireTLS = true
		case 1:
			m.env.Priority = all.env.Priority
		case 2:
			m.env.By = all.env.By
		case 3:
			m.env.ReleaseAt = all.env.ReleaseAt
		case 4:
			m.env.VERP = true
		case 5:
			m.env.TLSOptional = true
		case 6:
			m.env.Junk = true
		case 7:
			m.env.Release = all.env.Release
		case 8:
			m.env.Stays = true
		}
		alone = append(alone, m)
	}
	for _, m := range alone {
		if got, err := decodeMessage(9, m.encode()); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v, %v; want %+v", got, err, m)
		}
	}
	plain := ofVersion1().encode()
	payload := plain[1 : len(plain)-4]
	for name, tail := range map[string][]byte{
		"unknown": {99, 0}, "twice": {1, 0, 1, 0}, "out of order": {5, 0, 1, 0}, "cut": {2, 1}, "too long": {1, 1, 0},
	} {
		b := record.Seal(messageVersion, append(bytes.Clone(payload), tail...))
		want := fault.Corrupt
		if name == "unknown" { // a newer program may have written it
			want = fault.Unsupported
		}
		if m, err := decodeMessage(9, b); !fault.Is(err, want) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

// TestRecipientVersions: what is known of TLS comes back, and a record without it is of the
// form that earlier versions wrote and read.
func TestRecipientVersions(t *testing.T) {
	r := &recipient{Recipient: mail.Recipient{Address: address("bob@example.org")}, group: 1, state: failed, at: 5,
		result: Result{Code: 454, Enhanced: "4.7.5", Text: "no", Host: "mx.example.org", Address: "192.0.2.1:25", TLS: "TLS 1.3, certificate not verified"}}
	for _, line := range []mail.Line{{}, {Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", Verified: mail.ProofDANE, Failure: mail.TLSAInvalid, Why: "none is usable"}, {Failure: mail.NoSTARTTLS}} {
		r.result.Line = line
		b := r.encode()
		if got, err := decodeRecipient(b); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v, %v", got, err)
		}
		if old := b[0] == version; old != (line == mail.Line{}) {
			t.Errorf("%+v has version %d", line, b[0])
		}
	}
}
