package admin

import "github.com/martlet-mail/martlet/internal/queue"

// sentLine is what an account, or the accounts of a domain, sent lately; a limit of 0 is
// none.
type sentLine struct {
	Name             string `json:"name"`
	MessagesInHour   int64  `json:"messages_in_hour"`
	RecipientsInHour int64  `json:"recipients_in_hour"`
	MessagesInDay    int64  `json:"messages_in_day"`
	RecipientsInDay  int64  `json:"recipients_in_day"`
	Limits           struct {
		MessagesPerHour   int `json:"messages_per_hour"`
		RecipientsPerHour int `json:"recipients_per_hour"`
		MessagesPerDay    int `json:"messages_per_day"`
		RecipientsPerDay  int `json:"recipients_per_day"`
	} `json:"limits"`
}

func (a *api) listSent(r *request) error {
	if a.Allowance == nil {
		return nil
	}
	list, err := a.Allowance.Sent(r.ctx)
	if err != nil {
		return err
	}
	for _, s := range list {
		if err := r.send(sentLineOf(s)); err != nil {
			return err
		}
	}
	return nil
}

func sentLineOf(s queue.SentLine) sentLine {
	l := sentLine{Name: s.Name, MessagesInHour: s.MessagesInHour, RecipientsInHour: s.RecipientsInHour, MessagesInDay: s.MessagesInDay, RecipientsInDay: s.RecipientsInDay}
	l.Limits.MessagesPerHour, l.Limits.RecipientsPerHour = s.Limits.MessagesPerHour, s.Limits.RecipientsPerHour
	l.Limits.MessagesPerDay, l.Limits.RecipientsPerDay = s.Limits.MessagesPerDay, s.Limits.RecipientsPerDay
	return l
}
