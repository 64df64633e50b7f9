package report

import (
	"fmt"
	"slices"
	"strings"
)

// advice says in a sentence what is wrong with mail of a source, and in another what to do.
func (s *Source) advice() (why, fix string) {
	signed, broken := s.signatures()
	switch {
	case s.SPF == "pass" && s.DKIM == "pass":
		return "", ""
	case s.DKIM == "pass" && s.Ours:
		return "its DKIM signature stands for " + s.HeaderFrom + ", but SPF does not", "see whether this address is in the SPF record: martlet dns diff " + s.Domain
	case s.DKIM == "pass":
		return "", "" // a forwarder, or a service with bounces of its own: DKIM is enough
	case s.SPF == "pass" && broken:
		return "its DKIM signature is not valid; it passes by SPF alone, which is lost when mail is forwarded", s.mendKeys()
	case s.SPF == "pass":
		return "it is not signed for " + s.HeaderFrom + "; it passes by SPF alone, which is lost when mail is forwarded", s.mendUnsigned()
	}
	switch listed := slices.ContainsFunc(s.Overrides, func(o string) bool {
		return o == "mailing_list" || o == "trusted_forwarder" || o == "forwarded"
	}); {
	case listed:
		return "a mailing list or forwarder has changed it on its way", "nothing: the receiver knows that and let it pass"
	case broken:
		return "its signature of " + s.HeaderFrom + " is not valid, and SPF does not stand for it: it was changed on its way, or signed with a key that is not in the DNS", s.mendKeys()
	case s.Ours:
		return "it comes from this server and is neither signed for " + s.HeaderFrom + " nor covered by its SPF record", "compare the DNS with what it should hold: martlet dns diff " + s.Domain
	case signed != "":
		return "it is signed by " + signed + " and not by " + s.HeaderFrom, "if you use this service, have it sign as " + s.HeaderFrom + " (its DKIM or domain authentication setting); if not, somebody uses your name"
	case s.spfOther() != "":
		return "its sender is " + s.spfOther() + ", and no signature stands for " + s.HeaderFrom, "if you use this service, have it sign as " + s.HeaderFrom + " (its DKIM or domain authentication setting); if not, somebody uses your name"
	}
	return "nothing stands for " + s.HeaderFrom + ": forged, or sent by a machine of yours that nobody told the DNS of", s.mendForged()
}

// signatures looks for one of another domain that passes, and for one of the author's that
// does not.
func (s *Source) signatures() (signed string, broken bool) {
	for _, text := range s.DKIMResults {
		domain, result, _ := strings.Cut(text, "=")
		switch aligned := below(s.HeaderFrom, domain) || below(domain, s.HeaderFrom); {
		case aligned && result != "pass" && result != "none":
			broken = true
		case !aligned && result == "pass" && signed == "":
			signed = domain
		}
	}
	return signed, broken
}

// spfOther is another domain for which SPF passed.
func (s *Source) spfOther() string {
	for _, text := range s.SPFResults {
		domain, result, _ := strings.Cut(text, "=")
		if result == "pass" && !below(s.HeaderFrom, domain) && !below(domain, s.HeaderFrom) {
			return domain
		}
	}
	return ""
}

func below(name, other string) bool { return name == other || strings.HasSuffix(name, "."+other) }

func (s *Source) mendKeys() string {
	if s.Ours {
		return "see whether the keys in the DNS are those that sign: martlet dns diff " + s.Domain
	}
	return "if the source is yours, see whether the key that it signs with is in the DNS; if it forwards your mail, nothing"
}

func (s *Source) mendUnsigned() string {
	if s.Ours {
		return "sign mail of the domain: martlet domain set " + s.Domain + " sign=yes"
	}
	return "have the service sign as " + s.HeaderFrom
}

func (s *Source) mendForged() string {
	text := "if it is not yours, nothing; if it is"
	if s.Address != "" {
		kind := "ip4"
		if strings.Contains(s.Address, ":") {
			kind = "ip6"
		}
		text += fmt.Sprintf(", add %s:%s to the SPF record of %s or", kind, s.Address, s.HeaderFrom)
	}
	text += " send its mail through this server"
	if s.Disposition == "none" {
		text += ". Once nothing of yours fails, have forged mail refused: martlet domain set " + s.Domain + " dmarc=reject"
	}
	return text
}

// faults explain the kinds of failure of TLS (RFC 8460, 4.3); %s is the domain.
var faults = map[string]struct{ why, fix string }{
	"starttls-not-supported":    {"the host did not offer STARTTLS", "give the server a certificate ([tls] certificate and key, or [tls.acme]); if it has one, something between takes STARTTLS out of the conversation: see martlet doctor"},
	"certificate-host-mismatch": {"the certificate is for other names", "get one for the name in the MX record: [tls.acme], or another file in [tls]; see martlet doctor"},
	"certificate-expired":       {"the certificate has run out", "renew it: with [tls.acme] that happens by itself; see the log for why it did not"},
	"certificate-not-trusted":   {"the certificate is of an authority that the sender does not know, or a certificate between is missing", "put the whole chain into the file of [tls] certificate, or use [tls.acme]"},
	"validation-failure":        {"TLS could not be set up, or the host is not one that the policy names", "the words of the reporter say more; see martlet doctor"},
	"tlsa-invalid":              {"the certificate is not one that the TLSA records name", "publish the records of the present key before it is used: martlet dns diff %s"},
	"dnssec-invalid":            {"the signatures of DNSSEC are not valid", "have whoever runs the zone sign it again, or take its DS record out; see martlet doctor"},
	"dane-required":             {"the sender wants DANE and found no TLSA records", "sign the zone with DNSSEC and publish the TLSA records: martlet dns show %s"},
	"sts-policy-fetch-error":    {"the MTA-STS policy could not be read from its web server", "see that mta-sts.%s leads to this server, and that https is reached: martlet doctor"},
	"sts-policy-invalid":        {"the MTA-STS policy is not valid", "if this server gives it out, it is one; see what https://mta-sts.%s/.well-known/mta-sts.txt shows from outside"},
	"sts-webpki-invalid":        {"the web server of the MTA-STS policy has no valid certificate", "get one for mta-sts.%s: [tls.acme] domains = true"},
}

// advice says what is wrong with connections, and what to do.
func (t *Transport) advice() (why, fix string) {
	if t.Result == "ok" {
		return "", ""
	}
	text, ok := faults[t.Result]
	if !ok {
		return "the sender reports " + t.Result, "the words of the reporter say more; see martlet doctor"
	}
	return text.why, strings.ReplaceAll(text.fix, "%s", t.Domain)
}
