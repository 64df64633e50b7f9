package discover

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
)

// pacc asks for the domain's configuration of user agents, and believes it if the digest of
// its bytes is in the DNS (draft-ietf-mailmaint-pacc).
func (h *hunt) pacc(ctx context.Context, _ *step) (found, error) {
	texts := make(chan []string, 1)
	var failure error
	h.running.Go(func() {
		all, _, err := h.dns.LookupTXT(ctx, "_ua-auto-config."+h.who.Domain)
		failure = err
		texts <- all
	})
	d, err := h.fetch(ctx, request{url: "https://ua-auto-config." + h.who.Domain + "/.well-known/user-agent-configuration.json", sameWay: true})
	records := <-texts
	switch {
	case err != nil:
		return found{}, err
	case failure != nil:
		return found{}, failure
	}
	if err := checkDigest(records, d.body); err != nil {
		return found{}, err
	}
	return parsePACC(d.body, h.who)
}

// checkDigest looks for a record with the digest of the body. There may be several, while one
// document is followed by another.
func checkDigest(records []string, body []byte) error {
	sum := sha256.Sum256(body)
	known := false
	for _, r := range records {
		tags := map[string]string{}
		for i, part := range strings.Split(r, ";") {
			key, value, _ := strings.Cut(part, "=")
			if key = strings.TrimSpace(key); i == 0 && key != "v" {
				break
			}
			tags[key] = strings.TrimSpace(value)
		}
		if tags["v"] != "UAAC1" || !strings.EqualFold(tags["a"], "sha256") {
			continue
		}
		known = true
		if strings.ContainsAny(tags["d"], "\r\n") { // the decoder would pass over them
			continue
		}
		want, err := base64.StdEncoding.DecodeString(tags["d"])
		if err == nil && subtle.ConstantTimeCompare(want, sum[:]) == 1 {
			return nil
		}
	}
	if !known {
		return errors.New("the DNS has no digest of the document, so it does not count")
	}
	return errors.New("the document is not the one whose digest is in the DNS, so it does not count")
}

// parsePACC reads the document. What it does not know is left out. Submission is called smtp up
// to draft 02, and submit since.
func parsePACC(body []byte, who subject) (found, error) {
	var doc struct {
		Protocols      map[string]json.RawMessage `json:"protocols"`
		Authentication map[string]json.RawMessage `json:"authentication"`
		Info           struct {
			Provider struct {
				Name string `json:"name"`
			} `json:"provider"`
			Help map[string]json.RawMessage `json:"help"`
		} `json:"info"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return found{}, errors.New("is not the JSON of a configuration")
	}
	got := found{provider: clip(doc.Info.Provider.Name)}
	var auth []string
	if _, ok := doc.Authentication["oauth-public"]; ok {
		auth = append(auth, "oauth2")
	}
	if string(doc.Authentication["password"]) == "true" {
		auth = append(auth, "password")
	}
	for _, p := range [...][2]string{
		{"imap", "imap"}, {"pop3", "pop3"}, {"submit", "smtp"}, {"smtp", "smtp"}, {"jmap", "jmap"}, {"managesieve", "sieve"}, {"caldav", "caldav"}, {"carddav", "carddav"},
	} {
		var at struct{ Host, URL string }
		if json.Unmarshal(doc.Protocols[p[0]], &at) != nil {
			continue
		}
		s := Service{
			Protocol: p[1], Host: properHost(at.Host), Port: defaultPorts[p[1]], Security: TLS,
			Username: who.user("address"), Auth: auth, Confidence: Verified,
		}
		if overHTTP(s.Protocol) {
			s.URL, s.Host = clip(at.URL), hostOfURL(at.URL)
		} else if s.Protocol == "sieve" {
			s.Security = StartTLS
		}
		if s.Host != "" {
			got.services = append(got.services, s)
		}
	}
	if len(got.services) == 0 {
		return got, errNothing
	}
	return got, nil
}
