import java.util.*;
import java.util.logging.*;

/** The faults of a Java shop: `java Shop KIND SEED` logs one, with java.util.logging. Many seeds may be given. */
public class Shop {
    static final Logger LOG = Logger.getLogger("com.acme.shop.Checkout");
    record Item(String sku, Integer price) {}
    static class PaymentException extends RuntimeException {
        PaymentException(String message, Throwable cause) { super(message, cause); }
    }
    static class Cart {
        final Map<String, Item> items = new HashMap<>();
        int total(String sku) { return items.get(sku).price(); }
        int first(String sku) { return new Item(sku, null).price(); }
        Item at(int index) { return new ArrayList<Item>().get(index); }
    }
    static class Gateway {
        void open(String id) { throw new IllegalStateException("Connection " + id + " is closed"); }
        void pay(String id) {
            try { open(id); } catch (IllegalStateException e) { throw new PaymentException("Payment " + id + " failed", e); }
        }
        void refund(String id) {
            try { Integer.parseInt(id.substring(0, 4) + "x"); } catch (NumberFormatException e) { throw new PaymentException("Refund " + id + " failed", e); }
        }
    }
    static void trigger(String kind, Random r) {
        String id = new UUID(r.nextLong(), r.nextLong()).toString();
        switch (kind) {
            case "null-total" -> new Cart().total(id);
            case "null-price" -> new Cart().first(id);
            case "index" -> new Cart().at(r.nextInt(1000));
            case "pay" -> new Gateway().pay(id);
            case "refund" -> new Gateway().refund(id);
            case "cast" -> { Object o = id; Integer i = (Integer) o; }
            case "enum" -> Thread.State.valueOf("ORDER_" + id.substring(0, 4));
            default -> throw new AssertionError(kind);
        }
    }
    public static void main(String[] args) {
        System.setProperty("java.util.logging.SimpleFormatter.format", "%1$tF %1$tT.%1$tL %4$s %3$s - %5$s%6$s%n");
        for (String seed : args[1].split(",")) {
            Random r = new Random(Long.parseLong(seed));
            try { trigger(args[0], r); }
            catch (RuntimeException e) { LOG.log(Level.SEVERE, "Request " + Long.toHexString(r.nextLong()) + " of customer " + r.nextInt(100000) + " failed", e); }
        }
    }
}
