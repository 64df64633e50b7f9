package receive

import (
	"fmt"
	"strings"
	"testing"
)

// A stranger's names cost a bounded number of questions, and what is too much of them goes.
func TestNamesOfResultsBounded(t *testing.T) {
	var words, names strings.Builder
	for i := range 35_000 {
		fmt.Fprintf(&words, "w%d ", i)
	}
	for i := range 900 {
		fmt.Fprintf(&names, "Authentication-Results: n%d.%sa\r\n", i, strings.Repeat("a.", 110))
	}
	for name, field := range map[string]string{
		"labels": "Authentication-Results: " + strings.Repeat("a.", 60_000) + "a; none\r\n",
		"words":  "Authentication-Results: " + words.String() + "\r\n",
		"names":  names.String(),
	} {
		w := newWorld(t)
		w.checked("x.test. A 192.0.2.1\n")
		parcel := w.parcel(field + "From: a@x.test\r\n\r\nbody\r\n")
		clean, _ := w.cleaned(t.Context(), parcel)
		if n := int(parcel.Size() - clean.Size()); n == 0 {
			t.Errorf("%s: the field stays", name)
		}
	}
	w := newWorld(t)
	asked := 0
	for i := range 100 {
		w.isOurs(t.Context(), fmt.Sprintf("n%d.%sa", i, strings.Repeat("a.", 110)), &asked)
		w.isOurs(t.Context(), strings.Repeat("a.", 60_000)+"a", &asked)
	}
	if asked > maxQuestions+100 {
		t.Errorf("%d questions", asked)
	}
	if asked = 0; w.isOurs(t.Context(), strings.Repeat("a.", 110)+"a", &asked) || asked < 100 {
		t.Errorf("a long name of a stranger counts as ours, after %d questions", asked)
	}
}

const forgedResults = "Authentication-Results: mx.here.test; dmarc=pass header.from=bank.test\r\n"

// In whatever way results of ours are forged, nobody here sees them.
func TestForgedResultsGo(t *testing.T) {
	named := func(name string) string {
		return strings.Replace(forgedResults, "mx.here.test", name, 1) + "From: a@x.test\r\n\r\nx\r\n"
	}
	for name, text := range map[string]string{
		"no body":        forgedResults + "From: a@x.test\r\n",
		"empty body":     forgedResults + "From: a@x.test\r\n\r\n",
		"odd line":       "no field\r\n" + named("mx.here.test"),
		"NUL":            forgedResults + "From: a@x.test\r\n\r\nbo\x00dy\r\n",
		"NUL in header":  forgedResults + "From: a@x.test\r\nX: \x00\r\n\r\nbody\r\n",
		"white line":     "X: y\r\n \r\n" + named("mx.here.test"),
		"continued":      " x\r\n" + named("mx.here.test"),
		"long":           forgedResults + "From: a@x.test\r\n\r\n" + strings.Repeat("body of some length\r\n", 20_000),
		"space":          strings.Replace(named("mx.here.test"), ":", strings.Repeat(" ", 190)+":", 1),
		"no name":        named(""),
		"no name at all": strings.Replace(named(""), " ;", "", 1),
		"wide dot":       named("mx.here\xef\xbc\x8etest"),
		"another":        named("imap.too.test"),
		"encoded":        named("=?utf-8?q?mx=2Ehere=2Etest?="),
		"quoted":         named(`"mx\.here.test"`),
		"comments":       named("(;)mx(x).here.(y)test(z)"),
		"open comment":   named("x( mx.here.test"),
		"version 2":      named("x.test 2"),
		"folded name":    named("mx.\r\n here.test"),
		"lone LF":        strings.Replace(named("mx.here.test"), "; ", ";\n ", 1),
		"final dot":      named("mx.here.test."),
		"slash":          named("mx.here.test/1"),
		"at":             named("a@mx.here.test"),
		"soft hyphen":    named("mx.he\xc2\xadre.test"),
		"two names":      named("x.test mx.here.test"),
	} {
		w := newWorld(t)
		w.checked("x.test. A 192.0.2.1\n")
		w.FromOutside(t.Context(), outside("alice@here.test"), w.parcel(text), []byte(received))
		if got := strings.Join(append(w.mailbox("alice", "INBOX"), w.mailbox("alice", "Junk")...), ""); strings.Contains(got, "header.from=bank.test") || got == "" {
			t.Errorf("%s: %.300q", name, got)
		}
	}
	w := newWorld(t) // the control
	w.checked("x.test. A 192.0.2.1\n")
	w.FromOutside(t.Context(), outside("alice@here.test"), w.parcel(named("mx.far.test")), []byte(received))
	if got := strings.Join(append(w.mailbox("alice", "INBOX"), w.mailbox("alice", "Junk")...), ""); !strings.Contains(got, "mx.far.test; dmarc=pass header.from=bank.test") {
		t.Errorf("results of another host went: %q", got)
	}
}

// Where a header is too long to take them out the message goes into Junk, whatever the policy.
func TestForgedResultsInLongHeader(t *testing.T) {
	w := newWorld(t)
	w.checked("x.test. A 192.0.2.1\n")
	w.Receiver.opt.Forged = "mark"
	long := strings.Repeat("X-Long: "+strings.Repeat("x", 900)+"\r\n", 400)
	for _, text := range []string{forgedResults + "From: a@bank.test\r\n" + long, "From: a@bank.test\r\n" + long + forgedResults} {
		w.FromOutside(t.Context(), outside("alice@here.test"), w.parcel(text+"\r\nbody\r\n"), []byte(received))
	}
	if in, junk := w.inbox("alice"), w.mailbox("alice", "Junk"); len(in) != 0 || len(junk) != 2 {
		t.Errorf("%d in INBOX, %d in Junk", len(in), len(junk))
	}
}

// Nobody with a login can write results in our name. A host that is trusted may.
func TestSubmittedResults(t *testing.T) {
	for protocol, stays := range map[string]bool{"ESMTPSA": false, "LMTP": true, "ESMTP": true} {
		w := newWorld(t)
		w.checked("x.test. A 192.0.2.1\n")
		env := envelope(protocol, "alice@here.test")
		if !stays {
			env = submitted("bob@here.test", "alice@here.test")
		}
		w.Deliver(t.Context(), env, w.parcel(forgedResults+"From: ceo@bank.test\r\n\r\nbody\r\n"))
		if got := strings.Join(w.inbox("alice"), ""); strings.Contains(got, "mx.here.test; dmarc=pass") != stays || got == "" {
			t.Errorf("%s: %q", protocol, got)
		}
	}
}
