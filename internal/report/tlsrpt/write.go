package tlsrpt

import (
	"bytes"
	"encoding/json"
	"time"
)

// The form of RFC 8460, 4.4.
type (
	file struct {
		Organization string     `json:"organization-name"`
		Range        dates      `json:"date-range"`
		Contact      string     `json:"contact-info"`
		ID           string     `json:"report-id"`
		Policies     []policies `json:"policies"`
	}
	dates struct {
		Start string `json:"start-datetime"`
		End   string `json:"end-datetime"`
	}
	policies struct {
		Policy   policy    `json:"policy"`
		Summary  summary   `json:"summary"`
		Failures []failure `json:"failure-details,omitempty"`
	}
	policy struct {
		Type    string   `json:"policy-type"`
		Strings []string `json:"policy-string,omitempty"`
		Domain  string   `json:"policy-domain"`
		Hosts   []string `json:"mx-host,omitempty"`
	}
	summary struct {
		Successes uint64 `json:"total-successful-session-count"`
		Failed    uint64 `json:"total-failure-session-count"`
	}
	failure struct {
		Result      string `json:"result-type"`
		Sending     string `json:"sending-mta-ip,omitempty"`
		Host        string `json:"receiving-mx-hostname,omitempty"`
		Helo        string `json:"receiving-mx-helo,omitempty"`
		Receiving   string `json:"receiving-ip,omitempty"`
		Sessions    uint64 `json:"failed-session-count"`
		Information string `json:"additional-information,omitempty"`
		Reason      string `json:"failure-reason-code,omitempty"`
	}
)

// JSON writes the report.
func (r *Report) JSON() []byte {
	f := file{r.Organization, dates{r.Begin.UTC().Format(time.RFC3339), r.End.UTC().Format(time.RFC3339)}, r.Contact, r.ID, []policies{}}
	for _, p := range r.Policies {
		one := policies{Policy: policy{p.Type, p.Strings, p.Domain, p.Hosts}, Summary: summary{p.Successes, p.Failed}}
		for _, x := range p.Failures {
			one.Failures = append(one.Failures, failure(x))
		}
		f.Policies = append(f.Policies, one)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(f) // strings and numbers always can be
	return b.Bytes()
}
