package discover

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// labels of services in the DNS (RFC 6186, 3; RFC 8314, 5.1; RFC 5804, 1.8; RFC 8620, 2.2;
// RFC 6764, 3).
var labels = []struct{ label, protocol, security string }{
	{"_imaps", "imap", TLS}, {"_imap", "imap", StartTLS},
	{"_pop3s", "pop3", TLS}, {"_pop3", "pop3", StartTLS},
	{"_submissions", "smtp", TLS}, {"_submission", "smtp", StartTLS},
	{"_jmap", "jmap", TLS}, {"_sieve", "sieve", StartTLS},
	{"_caldavs", "caldav", TLS}, {"_carddavs", "carddav", TLS},
}

// services asks for the SRV records of the domain.
func (h *hunt) services(ctx context.Context, _ *step) (found, error) {
	answers := make([][]Service, len(labels))
	denied := make([]bool, len(labels))
	failures := make([]error, len(labels))
	var asking sync.WaitGroup
	for i, l := range labels {
		asking.Go(func() {
			records, info, err := h.dns.LookupSRV(ctx, l.label+"._tcp."+h.who.Domain)
			if err != nil {
				failures[i] = err
				return
			}
			answers[i], denied[i] = h.records(records, l.protocol, l.security, info.AD)
		})
	}
	asking.Wait()
	var got found
	var failure error
	offered, absent := map[string]bool{}, map[string]bool{}
	for i, l := range labels {
		got.services = append(got.services, answers[i]...)
		offered[l.protocol] = offered[l.protocol] || len(answers[i]) > 0
		absent[l.protocol] = absent[l.protocol] || denied[i]
		if failures[i] != nil && !fault.Is(failures[i], fault.NotFound) {
			failure = failures[i]
		}
	}
	for protocol := range absent {
		if absent[protocol] && !offered[protocol] {
			got.lacks = append(got.lacks, protocol)
		}
	}
	slices.Sort(got.lacks)
	if len(got.services) == 0 && len(got.lacks) == 0 {
		return got, failure
	}
	if len(got.services) == 0 {
		got.result = "the domain says that it does not offer " + strings.Join(got.lacks, ", ")
	}
	return got, nil
}

// records are services in order of preference (RFC 2782): of equal ones the heavier first. denied
// tells that the domain says it has none. A host of another owner is believed only if the records
// are signed: whoever answers for the DNS on the way could name his own, with a certificate that is
// valid (RFC 6186, 6).
func (h *hunt) records(records []dnsx.SRV, protocol, security string, signed bool) (all []Service, denied bool) {
	slices.SortStableFunc(records, func(a, b dnsx.SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Weight, a.Weight))
	})
	for _, r := range records[:min(len(records), 4)] {
		host := properHost(r.Target)
		if r.Target == "" && len(records) == 1 {
			return nil, true
		}
		if host == "" || r.Port == 0 {
			continue
		}
		s := Service{
			Protocol: protocol, Host: host, Port: int(r.Port), Security: security, Username: h.who.user("address"), Auth: []string{"password"},
			Confidence: Published, Insecure: !signed && !h.who.below(host),
		}
		if overHTTP(protocol) {
			s.URL = "https://" + hostPort(host, int(r.Port)) + "/.well-known/" + protocol
		}
		all = append(all, s)
	}
	return all, false
}
