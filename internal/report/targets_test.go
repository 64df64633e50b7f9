package report_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// owes has something seen of n domains, of TLS or of DMARC.
func owes(h *house, n int, form, policy string) {
	for i := range n {
		if domain := fmt.Sprintf(form, i); policy == "" {
			h.book.Connected(session(noon, domain, ""))
		} else {
			saw(h, domain, policy)
		}
	}
}

// went counts reports by the domain that they went to.
func went(list []sent) map[string]int {
	n := map[string]int{}
	for _, s := range list {
		n[s.env.To[0].Address.Domain]++
	}
	return n
}

// Domains of a stranger that name somebody else for reports do not have him flooded; a restart
// does not help, the next day counts anew. Domains that name themselves are not bounded by it.
func TestMailBomb(t *testing.T) {
	var zone strings.Builder
	for i := range 100 {
		fmt.Fprintf(&zone, "_smtp._tls.d%d.evil.test. TXT \"v=TLSRPTv1; rua=mailto:a@victim.test,mailto:b@x%d.victim.test\"\n", i, i)
		fmt.Fprintf(&zone, "_smtp._tls.e%d.evil.test. TXT \"v=TLSRPTv1; rua=mailto:a@victim.test\"\n", i)
		fmt.Fprintf(&zone, "_smtp._tls.own%d.test. TXT \"v=TLSRPTv1; rua=mailto:a@own%d.test\"\n", i, i)
	}
	zone.WriteString("_dmarc.victim.test. TXT \"v=DMARC1; p=none\"\n")
	h := newHouse(t, zone.String())
	owes(h, 100, "d%d.evil.test", "")
	owes(h, 100, "own%d.test", "")
	got := went(h.send(midnight.Add(5 * time.Hour)))
	victim, own := 0, 0
	for to, n := range got {
		if strings.HasSuffix(to, "victim.test") {
			victim += n
		} else {
			own += n
		}
	}
	if victim != 10 || own != 100 {
		t.Errorf("%d to one who has asked for none, %d to those who have", victim, own)
	}
	h.restart()
	owes(h, 100, "e%d.evil.test", "")
	if got := went(h.send(midnight.Add(6 * time.Hour))); len(got) != 0 {
		t.Errorf("%v after a restart", got)
	}
	h.restart()
	for i := range 100 {
		h.book.Connected(session(midnight.Add(7*time.Hour), fmt.Sprintf("e%d.evil.test", i), ""))
	}
	if got := went(h.send(midnight.Add(29 * time.Hour))); got["victim.test"] != 10 {
		t.Errorf("%v the next day", got)
	}
}

// About one organization few reports go out in a day, wherever they go: it has not many
// domains with a record each. Who says in DNS that he takes reports of others gets more.
func TestReportsOfOneOrganization(t *testing.T) {
	var zone strings.Builder
	zone.WriteString("_dmarc.big.test. TXT \"v=DMARC1; p=none\"\n")
	for i := range 50 {
		fmt.Fprintf(&zone, "c%d.test._report._dmarc.reader.test. TXT \"v=DMARC1\"\n", i)
	}
	h := newHouse(t, zone.String())
	owes(h, 50, "d%d.big.test", "v=DMARC1; p=none; rua=mailto:r@big.test")
	owes(h, 50, "c%d.test", "v=DMARC1; p=none; rua=mailto:r@reader.test")
	if got := went(h.send(midnight.Add(5 * time.Hour))); got["big.test"] != 20 || got["reader.test"] != 50 {
		t.Error(got)
	}
	if got := h.states(); !strings.Contains(got, "no more than 20 reports about big.test go out in a day") {
		t.Error(got)
	}
}

// Of places outside of its organization a record may name two; those inside do not count.
func TestPlacesAbroad(t *testing.T) {
	var zone, list strings.Builder
	zone.WriteString("_dmarc.bank.test. TXT \"v=DMARC1; p=none\"\n")
	for i := range 4 {
		fmt.Fprintf(&zone, "bank.test._report._dmarc.r%d.test. TXT \"v=DMARC1\"\n", i)
		fmt.Fprintf(&list, "mailto:a@r%d.test,mailto:a@n%d.bank.test,", i, i)
	}
	rua := strings.TrimSuffix(list.String(), ",")
	fmt.Fprintf(&zone, "_smtp._tls.bank.test. TXT \"v=TLSRPTv1; rua=%s\"\n", rua)
	h := newHouse(t, zone.String())
	saw(h, "bank.test", "v=DMARC1; p=none; rua="+rua)
	h.book.Connected(session(noon, "bank.test", ""))
	got := went(h.send(midnight.Add(5 * time.Hour)))
	if got["r0.test"] != 2 || got["r1.test"] != 2 || got["r2.test"]+got["r3.test"] != 0 || got["n0.bank.test"] != 2 || len(got) < 4 {
		t.Errorf("%v\n%s", got, h.states())
	}
	if got := h.states(); strings.Count(got, "no report goes to mailto:a@r2.test: it is one of too many outside of bank.test") != 2 {
		t.Error(got)
	}
}

// A report that the queue does not take now is not one of the day.
func TestNotTakenIsNotCounted(t *testing.T) {
	var zone strings.Builder
	for i := range 12 {
		fmt.Fprintf(&zone, "_smtp._tls.a%d.test. TXT \"v=TLSRPTv1; rua=mailto:r@b.test\"\n", i)
	}
	h := newHouse(t, zone.String())
	owes(h, 12, "a%d.test", "")
	h.fail = fault.New(fault.Busy, "not now")
	if got := h.send(midnight.Add(5 * time.Hour)); len(got) != 0 {
		t.Fatal(got)
	}
	h.fail = nil
	if got := h.send(midnight.Add(10 * time.Hour)); len(got) != 10 {
		t.Error(len(got), h.states(), h.owed())
	}
}
