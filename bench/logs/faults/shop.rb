# The faults of a Ruby shop: `ruby shop.rb KIND SEED` logs one with Logger, or dies of it.
require 'logger'
require 'json'
require 'securerandom'
kind, seed = ARGV
R = Random.new(seed.to_i)
class Voucher
  def redeem(code) raise ArgumentError, "Voucher #{code} was redeemed on 2026-#{1 + R.rand(12)}-#{1 + R.rand(28)}" end
  def price(item) item.price end
  def key(order) { a: 1 }.fetch("order_#{order}") end
end
def hex(n) R.bytes(n).unpack1('H*') end
LOG = Logger.new($stderr)
case kind
when 'redeem' then Voucher.new.redeem("V#{hex(4).upcase}")
when 'nil' then Voucher.new.price(nil)
when 'key' then Voucher.new.key(R.rand(100000))
when 'zero' then R.rand(1000) / 0
when 'log-mail' then LOG.error("Mail for order #{R.rand(100000)} to customer#{R.rand(1000)}@example.org bounced: 550 no such user")
when 'log-trace'
  begin
    Voucher.new.redeem("V#{hex(4).upcase}")
  rescue ArgumentError => e
    LOG.error("#{e.class}: #{e.message}\n#{e.backtrace.join("\n")}")
  end
end
