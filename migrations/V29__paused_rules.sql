-- Alert rules that are paused.

-- A paused rule is not evaluated and sends no message.
ALTER TABLE public.tallyd_alert_rules ADD COLUMN paused bool NOT NULL DEFAULT false;
