package discover

import (
	"slices"
	"strings"
)

// advice is what people should know of an answer besides what its sources say.
func (h *hunt) advice(a *Answer) (notes []string) {
	say := func(s string) { notes = append(notes, s) }
	var owners []string
	for _, s := range a.Services {
		if s.Foreign {
			owners = append(owners, registrable(s.Host))
		}
	}
	slices.Sort(owners)
	if owners = slices.Compact(owners); len(owners) > 0 {
		say("a password you give will go to " + strings.Join(owners, " and ") + ": make sure that this is who keeps the mail of " + h.who.Domain)
	}
	if slices.ContainsFunc(a.Services, func(s Service) bool { return s.Insecure }) {
		say("these settings came over a way on which others could have changed them: compare them with what your provider says before you give a password")
	}
	if slices.ContainsFunc(a.Services, func(s Service) bool { return s.Security == "none" }) {
		say("the source names a server without encryption: others on the way can read the password and the mail")
	}
	if len(a.Services) > 0 && !slices.ContainsFunc(a.Services, func(s Service) bool { return s.Confidence != Guessed }) {
		say("nobody publishes settings for " + h.who.Domain + ": these hosts were guessed, and have shown a valid certificate for their name")
	}
	if h.mx != nil && h.mx.filter != "" && len(a.Services) == 0 {
		say("the mail of " + h.who.Domain + " goes to " + h.mx.filter + ", who only filters it or passes it on: who keeps it is not told by that")
	}
	if text := h.silence(); text != "" && (h.partial || len(a.Services) == 0) {
		say(text)
	}
	if h.partial {
		say("this is a part: not everybody had answered when it was given; ask again, and with --timeout 30s others have more time")
	}
	return notes
}
