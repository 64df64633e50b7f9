package bench

import (
	"math"
	"math/rand/v2"
	"strings"
)

// lexicon writes text in one language: its most frequent words by their rank, rarer
// ones made of syllables, words that go together, and sentences that people write again
// and again. It is made to compress as text of that language does.
type lexicon struct {
	words   []string
	phrases []string // words that go together, by their rank
	stock   []string // sentences
	hello   []string
	bye     []string
	wrote   string // with places for a date and a name
	givens  []string
	surname []string
	hosts   []string
}

// Words that are made up, and phrases, of each language.
const (
	rare    = 3_000
	phrases = 1_500
)

// complete adds rare words that are made of the parts.
func (l *lexicon) complete(seed uint64, stems, middles, ends []string, join bool) *lexicon {
	r := rand.New(rand.NewPCG(seed, 77))
	for range rare {
		w := pick(r, stems)
		for range r.IntN(3) {
			w += pick(r, middles)
		}
		w += pick(r, ends)
		if join && r.IntN(3) == 0 { // a noun made of two
			w = strings.ToUpper(w[:1]) + w[1:] + pick(r, stems) + pick(r, ends)
		}
		l.words = append(l.words, w)
	}
	for range phrases {
		p := zipf(r, l.words)
		for range 1 + r.IntN(3) {
			p += " " + zipf(r, l.words)
		}
		l.phrases = append(l.phrases, p)
	}
	return l
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func (l *lexicon) given(r *rand.Rand) string  { return pick(r, l.givens) }
func (l *lexicon) family(r *rand.Rand) string { return pick(r, l.surname) }
func (l *lexicon) domain(r *rand.Rand) string {
	return pick(r, l.hosts) + pick(r, []string{"-mail", "", "", "-group", "online"}) + pick(r, []string{".example.com", ".example.org", ".example.net"})
}

// zipf takes an item by Zipf's law: its frequency is inverse to its rank.
func zipf(r *rand.Rand, list []string) string {
	const shift = 2.7 // the most frequent are rarer than the law alone has them
	n := float64(len(list))
	rank := shift*math.Pow((n+shift)/shift, r.Float64()) - shift
	return list[min(int(rank), len(list)-1)]
}

func (l *lexicon) word(r *rand.Rand) string { return zipf(r, l.words) }

// sentence appends one, with a space behind.
func (l *lexicon) sentence(b []byte, r *rand.Rand) []byte {
	if r.IntN(6) == 0 {
		return append(append(b, pick(r, l.stock)...), ' ')
	}
	words := 3 + between(r, 0, 14) // or phrases
	for i := range words {
		w := l.word(r)
		if r.IntN(5) < 2 {
			w = zipf(r, l.phrases)
		}
		if i == 0 && w[0] >= 'a' && w[0] <= 'z' {
			b = append(append(b, w[0]-'a'+'A'), w[1:]...)
		} else {
			b = append(b, w...)
		}
		switch {
		case i == words-1:
			b = append(b, pick(r, []string{".", ".", ".", ".", "?", "!"})...)
		case r.IntN(11) == 0:
			b = append(b, ',')
		}
		b = append(b, ' ')
	}
	return b
}

// paragraph returns about size bytes of sentences.
func (l *lexicon) paragraph(r *rand.Rand, size int) string {
	b := make([]byte, 0, size+200)
	for len(b) < size {
		b = l.sentence(b, r)
	}
	return string(b[:len(b)-1])
}

// title returns a few words as they stand in subjects and headings.
func (l *lexicon) title(r *rand.Rand) string {
	b := make([]byte, 0, 80)
	for i := range 3 + r.IntN(5) {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, l.word(r)...)
	}
	if b[0] >= 'a' && b[0] <= 'z' {
		b[0] -= 'a' - 'A'
	}
	return string(b)
}

// wrap breaks text into lines of 72, each with prefix before it and end behind.
func wrap(b []byte, text, prefix, end string) []byte {
	for len(text) > 0 {
		n := len(text)
		if n > 72 {
			if n = strings.LastIndexByte(text[:72], ' '); n <= 0 {
				if n = strings.IndexByte(text, ' '); n < 0 {
					n = len(text)
				}
			}
		}
		b = append(append(append(b, prefix...), text[:n]...), end...)
		text = strings.TrimPrefix(text[n:], " ")
	}
	return b
}

func english() *lexicon {
	return (&lexicon{
		words: strings.Fields(`the to and of a in is for you that on it with be this are have as we will at not your from or if
			I by can was an please all but our they has new more me so would there which us about do my when what one been
			any out their up get no time just also some need he should know were other could see how only like these now
			let into work them use make than then had who want week its two may next over thanks first here very after
			through back good send meeting because think going its team where those before look project people way still
			day today much she best help well call review below sent most order take day her his attached both information
			does change last year many between being check following date customer since month update number available
			might each support line contact report off free business price system service find product email list own
			same question email open end under why account plan data part schedule page made issue per right using add
			great possible test again start done long set place able online market start without while old soon three
			within provide sure tomorrow include already office share process later problem version release access company
			read point around details cost state down offer group another feel link ask give web try always file name
			budget travel ticket invoice morning client draft contract deadline agenda training feedback quarter delivery`),
		stock: []string{"Please let me know if you have any questions.", "Thanks for getting back to me so quickly.",
			"Please find the document attached.", "I hope this finds you well.", "Looking forward to hearing from you.",
			"As discussed on the phone, here is the current version.", "Could you have a look at this before Friday?",
			"I will be out of the office until Monday.", "Sorry for the late reply.", "That works for me.",
			"See my comments below.", "Let us talk about this in our next meeting.", "Just a quick reminder.",
			"Would Tuesday at 10 suit you?", "We have updated our terms of service.", "Have a great weekend!"},
		hello: []string{"Hi %s,", "Hello %s,", "Dear %s,", "%s,", "Good morning %s,"},
		bye:   []string{"Best regards,", "Thanks,", "Kind regards,", "Cheers,", "Best,", "All the best,"},
		wrote: "On %s, %s wrote:",
		givens: strings.Fields(`James Mary Robert Linda Sarah Kevin Anna Oliver Emma Daniel Grace Peter Laura Ahmed Priya Tom
			Julia Marcus Helen Victor Chen Sofia David Nina`),
		surname: strings.Fields(`Smith Jones Taylor Brown Wilson Evans Walker Roberts Green Hall Wood Clarke Patel Khan Lewis
			Young King Wright Baker Turner Carter Phillips Reed Morgan`),
		hosts: strings.Fields(`northwind brightworks harbor acmetools fieldnotes greenline papertrail summit lakeside cityprint
			bluebird orchard`),
	}).complete(1, strings.Fields(`con pro re in dis ex com per sub inter trans over under out for sta tra gra pla cla bra fle
		sto pre ad ob im en be mar pol cul gen tem ver mis car tor sen lit den`),
		strings.Fields(`ten ver duc si ta mi for port ject cur rec man li ra ti no pa lo de me ri sta nal`),
		strings.Fields(`tion ing ed er s ly ment able ness al ive ity ous ance ent ure ate ish ful age or y es`), false)
}

func german() *lexicon {
	return (&lexicon{
		words: strings.Fields(`die der und in zu den das nicht von sie ist des sich mit dem dass er es ein ich auf so eine auch als
			an nach wie im für man aber aus durch wenn nur war noch werden bei hat wir was wird sein einen welche sind oder
			zur um haben einer mir über ihm diese einem ihr uns da zum kann doch vor dieser mich ihn du hatte seine mehr am
			denn nun unter sehr selbst schon hier bis habe ihre dann ihnen seiner alle wieder meine Zeit gegen vom ganz
			einzelnen wo muss ohne eines können sei ja wurde jetzt immer seinen wohl dieses ihren würde diesen sondern weil
			welcher nichts diesem alles waren will viel mein also soll worden lassen dies machen ihrer weiter Leben recht
			etwas keine ob Jahr Woche heute morgen Termin bitte Danke Anhang Rechnung Angebot Kunde Projekt Besprechung
			Frage Antwort Unterlagen Änderung Bestellung Lieferung Versand Preis neu gerne möchten Sie Ihnen Ihre Ihr
			Herr Frau anbei kurz Rückmeldung zwei drei erste nächste Montag Dienstag Mittwoch Donnerstag Freitag Uhr Tag
			Monat Stand Vertrag Büro Telefon Nummer Seite Entwurf Bericht Planung Aufgabe Team Firma gut groß klein
			wichtig möglich fertig offen schnell einfach leider natürlich eigentlich vielleicht zusammen zwischen während`),
		stock: []string{"Für Rückfragen stehe ich gerne zur Verfügung.", "Vielen Dank für Ihre Nachricht.",
			"Anbei erhalten Sie die gewünschten Unterlagen.", "Ich freue mich auf Ihre Rückmeldung.",
			"Wie besprochen hier der aktuelle Stand.", "Könnten Sie das bitte bis Freitag prüfen?",
			"Entschuldigung für die späte Antwort.", "Das passt mir gut.", "Meine Anmerkungen stehen unten.",
			"Wir haben unsere Allgemeinen Geschäftsbedingungen aktualisiert.", "Schönes Wochenende!",
			"Ich bin ab Montag wieder im Büro erreichbar.", "Sollen wir kurz telefonieren?"},
		hello: []string{"Hallo %s,", "Lieber %s,", "Guten Tag %s,", "Sehr geehrte Damen und Herren,", "Moin %s,"},
		bye:   []string{"Mit freundlichen Grüßen", "Viele Grüße", "Beste Grüße", "Liebe Grüße", "Herzliche Grüße"},
		wrote: "Am %s schrieb %s:",
		givens: strings.Fields(`Jürgen Sabine Thomas Andrea Michael Petra Stefan Claudia Jan Katrin Lukas Jonas Hannah Björn
			Ulrike Wolfgang Mehmet Svenja`),
		surname: strings.Fields(`Müller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Koch Bauer Richter
			Klein Wolf Schröder Neumann Krüger Yilmaz Lehmann`),
		hosts: strings.Fields(`nordlicht handwerk stadtwerke buchhaus moebelwelt reisezeit druckerei weinhof technikraum
			hafenkontor`),
	}).complete(2, strings.Fields(`ver be ge ent er zer un auf aus ein vor nach wirt schaf arbeit haus land zeit kraft bau werk
		recht stadt fahr schul geld buch tag reich stell trag wort druck licht markt plan`),
		strings.Fields(`ten ung el er ig lich schaft haft keit la ri sta ne be ze`),
		strings.Fields(`ung en er e heit keit lich ig t te st isch bar los schaft es em nis`), true)
}
