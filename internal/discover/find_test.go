package discover

import (
	"context"
	"testing"
	"time"
)

func TestTableAnswersWithoutNetwork(t *testing.T) {
	f, err := New(Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	a, err := f.Find(context.Background(), "someone@gmail.com")
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Services) != 4 || a.Services[0].Host != "imap.gmail.com" || a.Services[0].Username != "someone@gmail.com" || a.Services[0].Confidence != Database {
		t.Fatalf("%+v", a)
	}
}
