package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
)

// The client as a program, as docs/conform.md asks for it.
func main() {
	deeds := make(chan Deed)
	go func() {
		defer close(deeds)
		lines := bufio.NewScanner(os.Stdin)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var deed Deed
			if json.Unmarshal(lines.Bytes(), &deed) == nil {
				deeds <- deed
			}
		}
	}()
	told := json.NewEncoder(os.Stdout)
	token := func() string {
		text, _ := os.ReadFile(os.Getenv("NATTER_TOKEN_FILE"))
		return strings.TrimSpace(string(text))
	}
	client := Client{
		URLs:   strings.Split(os.Getenv("NATTER_URL"), ","),
		Token:  token,
		Device: os.Getenv("NATTER_DEVICE"),
		Tell:   func(event Event) { told.Encode(event) },
		Deeds:  deeds,
	}
	code := client.Run()
	if !client.ended {
		client.Tell(Event{Event: "closed", Code: code})
	}
}
