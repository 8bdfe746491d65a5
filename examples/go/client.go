// Package main is a client of natter. It keeps the rules of docs/protocol.md ("rule 8" below is one of them), and
// `natter conform -- ./client` puts it through all that a mesh may do to it. One goroutine owns everything; another one reads
// the socket. What must outlive a restart (the device's name, what has no answer) is left to you.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	mrand "math/rand"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Frame is what a node says, as far as this client looks at it.
type Frame struct {
	Op          string          `json:"op"`
	Ref         int64           `json:"ref"`
	Conv        string          `json:"conv"`
	Seq         int64           `json:"seq"`
	From        json.RawMessage `json:"from"`
	Cid         string          `json:"cid"`
	Body        json.RawMessage `json:"body"`
	User        string          `json:"user"`
	New         bool            `json:"new"`
	Ts          int64           `json:"ts"`
	Exp         int64           `json:"exp"`
	PingSecs    int64           `json:"ping_secs"`
	Since       *string         `json:"since"`
	ReconnectMs int64           `json:"reconnect_ms"`
	Code        string          `json:"code"`
	Retry       bool            `json:"retry"`
	RetryAfter  *int64          `json:"retry_after_ms"`
}

// Event is what the program gets: "message", "sent", "refused", "closed".
type Event struct {
	Event string          `json:"event"`
	ID    string          `json:"id,omitempty"`
	Conv  string          `json:"conv,omitempty"`
	Seq   int64           `json:"seq,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
	Code  any             `json:"code,omitempty"`
}

// Deed is what the program asks for.
type Deed struct {
	ID   string          `json:"id"`
	To   string          `json:"to"`
	Body json.RawMessage `json:"body"`
}

// What has no answer yet.
type item struct {
	Deed
	ref     int64
	cid     string
	written bool
	tries   int
}

type gap struct {
	conv string
	seq  int64
}

// Client is one device of one user.
type Client struct {
	URLs   []string
	Token  func() string
	Device string
	Tell   func(Event)
	Deeds  <-chan Deed // closed when there is nothing more to do

	outbox   []*item
	lastRef  int64
	attempt  int64
	since    *string
	have     map[string]int64 // how far each conversation is
	loose    map[string]bool  // where a hole is meant
	gaps     map[gap]bool     // holes that were seen
	due      map[string]int64
	acked    map[string]int64
	failures int
	back     *time.Duration
	ended    bool

	conn           *websocket.Conn
	user           string
	skew           time.Duration
	ackAt, tokenAt time.Time
	hold           time.Time
	heard          atomic.Int64
}

// Run connects, again and again, until a node says that it must not, or the deeds have ended. It gives the close code.
func (c *Client) Run() int {
	c.attempt = time.Now().UnixMilli()
	c.have, c.loose, c.gaps = map[string]int64{}, map[string]bool{}, map[gap]bool{}
	c.due, c.acked = map[string]int64{}, map[string]int64{}
	for tries := 0; ; tries++ {
		code := c.connection(c.URLs[tries%len(c.URLs)])
		if c.ended || !again(code) {
			return code
		}
		wait := time.After(c.wait())
		for waiting := true; waiting; {
			select {
			case <-wait:
				waiting = false
			case deed, more := <-c.Deeds:
				if !more {
					c.ended = true
					return code
				}
				c.add(deed)
			}
		}
	}
}

func again(code int) bool {
	switch code {
	case 1001, 1005, 1006, 1011, 1012, 1013, 4101:
		return true
	}
	return code >= 4000 && code < 4100
}

// Rules 14, 16 and 17.
func (c *Client) wait() time.Duration {
	c.failures++
	if c.back != nil {
		back := *c.back
		c.back = nil
		return back
	}
	full := math.Min(30, 0.25*math.Pow(2, float64(c.failures)))
	return time.Duration(full * (0.5 + mrand.Float64()/2) * float64(time.Second))
}

func (c *Client) add(deed Deed) {
	cid := make([]byte, 12) // rule 7
	rand.Read(cid)
	c.lastRef++
	c.outbox = append(c.outbox, &item{Deed: deed, ref: c.lastRef, cid: hex.EncodeToString(cid)})
}

func (c *Client) connection(url string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dialing, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	hear := func() { c.heard.Store(time.Now().UnixNano()) }
	options := &websocket.DialOptions{
		Subprotocols:   []string{"natter.json.v1"},
		OnPingReceived: func(context.Context, []byte) bool { hear(); return true },
	}
	conn, _, err := websocket.Dial(dialing, url, options)
	if err != nil {
		return 1006
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1)
	c.conn, c.attempt = conn, c.attempt+1
	hear()
	frames, lost := make(chan Frame), make(chan error, 1)
	go func() {
		for {
			_, payload, err := conn.Read(ctx)
			if err != nil {
				lost <- err
				return
			}
			hear()
			var frame Frame
			if json.Unmarshal(payload, &frame) == nil { // else it is of another version (rule 20)
				select {
				case frames <- frame:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	hello := map[string]any{"op": "hello", "token": c.Token(), "device": c.Device, "attempt": c.attempt, "since": c.since}
	c.write(hello)
	return c.serve(frames, lost)
}

func (c *Client) serve(frames <-chan Frame, lost <-chan error) int {
	welcome := false
	silence := 15 * time.Second // logins wait in line
	deeds := c.Deeds
	for {
		if welcome {
			c.writeDue(time.Now())
		}
		tick := time.After(c.next(welcome, silence))
		select {
		case err := <-lost:
			var closed websocket.CloseError
			if errors.As(err, &closed) {
				return int(closed.Code)
			}
			return 1006
		case frame := <-frames:
			if !welcome && frame.Op == "welcome" {
				welcome = true
				silence = 2 * time.Duration(frame.PingSecs) * time.Second
				c.onWelcome(frame)
			} else if !c.onFrame(frame) {
				return 1006
			}
		case deed, more := <-deeds:
			if !more {
				c.ended = true
				c.writeAcks()
				c.conn.Close(websocket.StatusNormalClosure, "")
				return 1000
			}
			c.add(deed)
		case <-tick:
			if time.Now().UnixNano()-c.heard.Load() >= int64(silence) { // rule 18
				return 1006
			}
		}
	}
}

// How long there is nothing to do.
func (c *Client) next(welcome bool, silence time.Duration) time.Duration {
	next := time.Unix(0, c.heard.Load()).Add(silence)
	for _, at := range []time.Time{c.ackAt, c.tokenAt, c.hold} {
		if welcome && !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return max(time.Until(next), time.Millisecond)
}

func (c *Client) write(frame any) {
	text, err := json.Marshal(frame)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c.conn.Write(ctx, websocket.MessageText, text) // what is wrong with the connection, the reader says
}

func (c *Client) writeDue(now time.Time) {
	if !c.ackAt.IsZero() && now.After(c.ackAt) { // rule 4
		c.writeAcks()
	}
	if !c.tokenAt.IsZero() && now.After(c.tokenAt) {
		c.tokenAt = time.Time{}
		c.write(map[string]any{"op": "token", "ref": 0, "token": c.Token()})
	}
	if now.Before(c.hold) {
		return
	}
	c.hold = time.Time{}
	for _, item := range c.outbox {
		if !item.written {
			item.written = true
			c.write(map[string]any{"op": "send", "ref": item.ref, "to": item.To, "cid": item.cid, "body": item.Body})
		}
	}
}

func (c *Client) writeAcks() {
	for conv, seq := range c.due {
		c.write(map[string]any{"op": "ack", "conv": conv, "seq": seq})
		c.acked[conv] = seq
	}
	c.due, c.ackAt = map[string]int64{}, time.Time{}
}

func (c *Client) onWelcome(welcome Frame) {
	c.user, c.hold = welcome.User, time.Time{}
	c.skew = time.Since(time.UnixMilli(welcome.Ts))
	c.renewBefore(welcome.Exp)
	if welcome.New {
		for conv := range c.have {
			c.loose[conv] = true
		}
	}
	for _, item := range c.outbox { // rule 10
		item.written = false
	}
}

// Rule 19: a minute before, or half way where there is no minute.
func (c *Client) renewBefore(exp int64) {
	left := time.Until(time.UnixMilli(exp).Add(c.skew))
	if left > 2*time.Minute {
		c.tokenAt = time.Now().Add(left - time.Minute)
	} else {
		c.tokenAt = time.Now().Add(left / 2)
	}
}

// False where the connection must end.
func (c *Client) onFrame(frame Frame) bool {
	item := c.of(func(item *item) bool { return item.ref == frame.Ref })
	switch frame.Op {
	case "message":
		return c.onMessage(frame)
	case "sent":
		if item != nil {
			c.end(item, Event{Event: "sent", Conv: frame.Conv, Seq: frame.Seq})
		}
	case "error":
		c.onError(frame, item)
	case "caught_up": // rules 15 and 16
		c.failures, c.gaps = 0, map[gap]bool{}
		if frame.Since != nil {
			c.since = frame.Since
		}
	case "truncated":
		c.loose[frame.Conv] = true
	case "goodbye":
		back := time.Duration(frame.ReconnectMs) * time.Millisecond
		c.back = &back
	case "token_ok":
		c.renewBefore(frame.Exp)
	}
	return true
}

func (c *Client) onMessage(message Frame) bool {
	conv, seq, have := message.Conv, message.Seq, c.have[message.Conv]
	if conv == "" || seq == 0 {
		return true
	}
	if string(message.From) == `"`+c.user+`"` { // rule 9
		if own := c.of(func(item *item) bool { return item.cid == message.Cid }); own != nil {
			c.end(own, Event{Event: "sent", Conv: conv, Seq: seq})
		}
	}
	if have > 0 && seq > have+1 && !c.loose[conv] && !c.gaps[gap{conv, seq}] {
		// Rule 5: connect anew, from the last acknowledgement. A hole that is there again stays.
		c.gaps[gap{conv, seq}] = true
		return false
	}
	if seq > have { // rule 3
		c.have[conv] = seq
		delete(c.loose, conv)
		c.Tell(Event{Event: "message", Conv: conv, Seq: seq, Body: message.Body})
	}
	if c.ackAt.IsZero() {
		c.ackAt = time.Now().Add(200 * time.Millisecond)
	}
	c.due[conv] = c.have[conv]
	return true
}

func (c *Client) onError(frame Frame, item *item) {
	tries := 2
	if item != nil {
		item.tries = min(item.tries+1, 5)
		tries = item.tries
	}
	wait := time.Duration(100*math.Pow(2, float64(tries))*(0.5+mrand.Float64()/2)) * time.Millisecond
	if frame.RetryAfter != nil {
		wait = time.Duration(*frame.RetryAfter) * time.Millisecond
	}
	until := time.Now().Add(wait)
	switch {
	case item != nil && !frame.Retry: // rule 13
		c.end(item, Event{Event: "refused", Code: frame.Code})
	case item != nil: // rules 11 and 12: this one waits, and what was written after it
		if until.After(c.hold) {
			c.hold = until
		}
		for _, other := range c.outbox {
			other.written = other.written && other.ref < item.ref
		}
	case frame.Retry: // perhaps it was an acknowledgement
		for conv, seq := range c.acked {
			c.due[conv] = max(seq, c.due[conv])
		}
		c.ackAt = until
	}
}

func (c *Client) of(is func(*item) bool) *item {
	for _, item := range c.outbox {
		if is(item) {
			return item
		}
	}
	return nil
}

func (c *Client) end(item *item, event Event) {
	event.ID = item.ID
	c.Tell(event)
	for i, other := range c.outbox {
		if other == item {
			c.outbox = append(c.outbox[:i], c.outbox[i+1:]...)
			return
		}
	}
}
