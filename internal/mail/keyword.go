package mail

import "strings"

// Keywords of messages that are registered, as the registry writes them (RFC 5788, RFC
// 9051, 2.3.2; RFC 8457; RFC 8621, 4.1.1; RFC 9979).
var registered = [...]string{
	"$Forwarded", "$Important", "$Junk", "$MDNSent", "$NotJunk", "$Phishing", "$Submitted", "$SubmitPending",
	"$MailFlagBit0", "$MailFlagBit1", "$MailFlagBit2",
	"$autosent", "$canunsubscribe", "$followed", "$hasattachment", "$hasmemo", "$hasnoattachment", "$imported",
	"$istrusted", "$maskedemail", "$memo", "$muted", "$new", "$notify", "$unsubscribed",
}

// Keywords that a delivery may set (RFC 9979, 4).
const (
	HasAttachment   = "$hasattachment"
	HasNoAttachment = "$hasnoattachment"
)

// exclusive are keywords that no message has both of; of two that are set at once the
// first one stays (RFC 9979, 4, 5, 7.2 and 7.6).
var exclusive = [...][2]string{
	{HasAttachment, HasNoAttachment}, {"$memo", "$hasmemo"}, {"$followed", "$muted"},
}

// FlagColours are the keywords that colour a flagged message; without \Flagged they mean
// nothing (RFC 9979, 3).
func FlagColours() []string { return registered[8:11] }

// Keyword returns a keyword in the spelling of the registry; one that is not registered
// as it is.
func Keyword(name string) string {
	if !strings.HasPrefix(name, "$") {
		return name
	}
	for _, r := range registered {
		if strings.EqualFold(r, name) {
			return r
		}
	}
	return name
}

// Excluded returns the keywords that cannot stand beside some others, which have none
// of these among them after Compatible.
func Excluded(names []string) (out []string) {
	for _, pair := range exclusive {
		for i, one := range pair {
			if hasKeyword(names, one) {
				out = append(out, pair[1-i])
			}
		}
	}
	return out
}

// Compatible returns keywords without those that others of them exclude.
func Compatible(names []string) []string {
	for _, pair := range exclusive {
		if !hasKeyword(names, pair[0]) || !hasKeyword(names, pair[1]) {
			continue
		}
		kept := make([]string, 0, len(names))
		for _, n := range names {
			if !strings.EqualFold(n, pair[1]) {
				kept = append(kept, n)
			}
		}
		names = kept
	}
	return names
}

func hasKeyword(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
